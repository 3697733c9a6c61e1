"""Whether the webhook's receiver is there, as far as its answers show."""

from __future__ import annotations

from dataclasses import dataclass

OUTAGE_FAILURES = 3  # so many failures in a row over so long are an outage of the receiver;
OUTAGE_S = 30.0  # below that the pauses are short, or one notice alone is not wanted


@dataclass(slots=True)
class ReceiverHealth:
    """What the answers show of the receiver; at a start it may have been down, so notices may be `waiting`.

    Those are brought forward as long as it `answers`, each once: `before` is how far that has come.
    """

    answers: bool = False
    waiting: bool = True
    before: int | None = None
    failures: int = 0
    failing_since: float = 0.0

    def fail(self, now: float) -> bool:
        """Note a failure at `now`, in seconds of running time; True for the first of a row."""
        self.answers = False
        self.failures += 1
        if self.failures == 1:
            self.failing_since = now
        return self.failures == 1

    def recover(self, now: float) -> bool:
        """Note a success; True for the first after failures."""
        if self.failures >= OUTAGE_FAILURES and now - self.failing_since >= OUTAGE_S:
            self.waiting, self.before = True, None
        self.answers = True
        failed, self.failures = self.failures > 0, 0
        return failed
