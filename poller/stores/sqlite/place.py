"""Whether a store's file is still where it was opened.

SQLite goes on writing to a file that was moved or removed while in use, and all of that would be lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from poller.ports import StoreUnavailableError


@dataclass(frozen=True, slots=True)
class Place:
    """A path, and the device and number of the file that was there; None for a store that is in no file."""

    path: Path
    file: tuple[int, int] | None

    @classmethod
    def of(cls, path: Path) -> Place:
        """What is there now."""
        return cls(path, _file_at(path))

    def check(self) -> None:
        """Raises StoreUnavailableError where the same file is not there any more."""
        if self.file is not None and _file_at(self.path) != self.file:
            raise StoreUnavailableError(
                f"{self.path} was moved or removed while in use: put that file back, or restart the daemon to go "
                "on with what is there now"
            )


def _file_at(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
