"""The rules, pure: nothing here does I/O, reads a clock or rolls dice; `now` and `jitter` are arguments."""
