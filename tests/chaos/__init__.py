"""Chaos on the real thing: the daemon's process is killed, stopped, cut off and starved of disk, and judged.

`python -m tests.chaos --kills 500` plays it. The simulated platform and the receiver live in the command's own
process and are the witnesses: the daemon's word is held against theirs.
"""
