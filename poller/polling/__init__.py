"""The poller: due, throttle, query, decide, record; one query at a time for an order."""

from poller.polling.poller import Poller

__all__ = ["Poller"]
