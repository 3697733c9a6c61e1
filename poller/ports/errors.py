"""The faults that callers of a store have to know about."""

from __future__ import annotations

from typing import TypeVar

E = TypeVar("E", bound=Exception)


class StoreUnavailableError(Exception):
    """The store could not write or read now (full disk, I/O error, …). Nothing of the call was kept.

    The message says what happened and what to do about it. The call may be repeated.
    """


class HeldElsewhereError(StoreUnavailableError):
    """Another daemon of the fleet holds the order. The message names it."""


class LeaseLostError(StoreUnavailableError):
    """What the daemon held is the others' now, or may be: nothing was sent or written."""


class StoreTooNewError(Exception):
    """The store was written by a newer version; it was not touched."""


class StoreMovedError(Exception):
    """The store's orders are kept elsewhere now, or are on their way there. The message says where."""


class StoreHeldError(Exception):
    """Another process holds the store. The message names its pid."""


class StoreCorruptError(Exception):
    """The file is not a usable store. The message says what to do."""


class UnknownOrderError(Exception):
    """There is no such order or notice."""


def for_one(fault: E, cause: BaseException) -> E:
    """The same fault for one of several callers, each of whom raises an instance of its own."""
    own = type(fault)(str(fault))
    own.__cause__ = cause
    return own
