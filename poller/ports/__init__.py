"""What the loops need of the world, in the domain's words. The docstrings are the contract.

A call that meets a fault the caller must know about raises the error named here; anything else that is
raised is a defect and ends the process.
"""

from poller.ports.errors import (
    HeldElsewhereError,
    LeaseLostError,
    StoreCorruptError,
    StoreHeldError,
    StoreMovedError,
    StoreTooNewError,
    StoreUnavailableError,
    UnknownOrderError,
)
from poller.ports.fleet import Alone, Errand, Fleet, FleetThrottle, Lease
from poller.ports.store import (
    Store,
)
from poller.ports.values import (
    Accepted,
    Attempt,
    Counts,
    Delivery,
    Differs,
    HistoryEntry,
    Known,
    Making,
    Notice,
    Pending,
    Progress,
    Recorded,
    Stamp,
    Submitted,
)
from poller.ports.world import (
    Clock,
    Platform,
    Receiver,
    Throttle,
)

__all__ = [
    "Accepted",
    "Alone",
    "Attempt",
    "Clock",
    "Counts",
    "Delivery",
    "Differs",
    "Errand",
    "Fleet",
    "FleetThrottle",
    "HeldElsewhereError",
    "HistoryEntry",
    "Known",
    "Lease",
    "LeaseLostError",
    "Making",
    "Notice",
    "Pending",
    "Platform",
    "Progress",
    "Receiver",
    "Recorded",
    "Stamp",
    "Store",
    "StoreCorruptError",
    "StoreHeldError",
    "StoreMovedError",
    "StoreTooNewError",
    "StoreUnavailableError",
    "Submitted",
    "Throttle",
    "UnknownOrderError",
]
