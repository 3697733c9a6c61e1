"""A simulated world: the whole daemon, its real loops and store, in simulated time, against seeded faults.

`python -m tests.world --histories 10000` runs histories on all cores; a failing one is replayed exactly by
its seed. After each history the promises of the daemon are checked against the world's own record. `--fleet`
is for several daemons on one PostgreSQL: see `tests.world.fleet`.
"""
