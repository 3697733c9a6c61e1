"""Chaos on a fleet: daemons on one PostgreSQL, of which one is killed, one is stopped, and the server fails over.

`python -m tests.fleet` plays it. The simulated platform and the receiver live in the command's own process and are
the witnesses, as in `tests.chaos`; the database keeps a record of its own (see `audit`).
"""
