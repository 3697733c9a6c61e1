"""The store's state as its callers meet it: one line when it begins to refuse, one when it writes again."""

from __future__ import annotations

import structlog

from poller.ports import StoreUnavailableError

log = structlog.get_logger()


class StoreTrouble:
    """`current` is what the store last said when it refused; None while it writes."""

    def __init__(self) -> None:
        self.current: str | None = None

    def met(self, error: StoreUnavailableError, while_doing: str) -> None:
        """The store refused."""
        if self.current is None:
            log.error("store.unavailable", error=str(error), while_doing=while_doing)
        self.current = str(error)

    def over(self) -> None:
        """Something was written."""
        if self.current is not None:
            log.info("store.available")
        self.current = None
