"""What an order's number says the platform of the benchmarks does with it.

`after5-…` settles as paid at its fifth query, `never-…` not at all, `at81234567-…` once `time.monotonic()`, which
is the machine's and so the same in every process, has reached so many milliseconds.
"""

from __future__ import annotations

PARK = "49f0cc52-e8c7-41e3-b54d-af666b8cc11a"
APP_SECRET = "0123456789abcdef0123456789abcdef"


def after(queries: int, index: int) -> str:
    """Settles at its `queries`-th query."""
    return f"after{queries}-{index:07d}"


def never(index: int) -> str:
    """Stays in progress."""
    return f"never-{index:07d}"


def at(monotonic: float, index: int) -> str:
    """Settles at that `time.monotonic()`."""
    return f"at{int(monotonic * 1000)}-{index:07d}"
