"""What happens at the daemon, one thing after the other, in words and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from poller.cli.following import Summary, Told
from poller.cli.printing import shown, to_the_second


@dataclass(frozen=True, slots=True)
class Happening:
    """`at` is RFC 3339; `event_id` is None where it is no notice."""

    type: str
    at: str
    words: str
    data: dict[str, Any] = field(default_factory=dict)
    event_id: str | None = None

    def line(self) -> str:
        """For people."""
        return f"{to_the_second(self.at)}  {self.words}"

    def document(self) -> dict[str, Any]:
        """For programs: as a notice, with its `event_id`."""
        return {"type": self.type, "timestamp": self.at, "event_id": self.event_id, "data": self.data}


def of_notice(told: Told) -> Happening:
    """A notice was made."""
    notice = told.notice
    order = notice["data"]
    kind = str(notice["type"]).removeprefix("payment.")
    words = f"{shown(order['pay_partner'])}  {kind}{', late' if order.get('late') else ''}"
    if order["metadata"]:
        words += f"  {metadata_text(order['metadata'])}"
    return Happening(notice["type"], notice["timestamp"], words, order, told.event_id)


def changes(before: Summary | None, after: Summary) -> Iterator[Happening]:
    """What differs between two summaries of platform and store; all of it where there was none before."""
    platform, store = after["platform"], after["store"]
    if before is None or platform["status"] != before["platform"]["status"]:
        status, because = platform["status"], f": {shown(platform['cause'])}" if platform["cause"] else ""
        words = f"the platform is {status} since {to_the_second(platform['since'])}{because}"
        yield Happening(f"platform.{status}", platform["since"], words, platform)
    if before is None or store["status"] != before["store"]["status"]:
        if store["status"] == "ok":
            yield Happening("store.available", after["at"], "orders can be taken on", store)
        else:
            words = f"no order can be taken on: {shown(store.get('cause'))}"
            yield Happening("store.unavailable", after["at"], words, store)


def gone(at: str, why: str) -> Happening:
    """The daemon cannot be asked any more."""
    return Happening("daemon.gone", at, f"{why}; waiting for it", {"error": why})


def back(after: Summary) -> Happening:
    """The daemon answers again."""
    version = after["version"]
    return Happening("daemon.back", after["at"], f"the daemon is back, version {version}", {"version": version})


def metadata_text(metadata: dict[str, Any]) -> str:
    """The lot's own words for an order, lane and plate first."""
    names = sorted(metadata, key=lambda name: (name != "lane", name != "plate"))
    return ", ".join(f"{shown(name)} {shown(metadata[name])}" for name in names)
