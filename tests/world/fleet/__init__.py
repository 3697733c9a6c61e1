"""The simulated world of a fleet: several daemons, each with its own clock, over one real PostgreSQL.

Every statement of the store is executed by PostgreSQL itself, one at a time, while the simulated clock stands
still. What lies between a daemon and the database (the way there and back, cuts, timeouts, the death of either
side) and the daemons' processes are simulated. The driver's own protocol is not in it.
"""
