"""One real query to the platform, as `poller check` makes it, and what its answer means for who set things up."""

from __future__ import annotations

from typing import assert_never

from poller.cli.probes import Finding
from poller.config import Config
from poller.core.orders import OrderKey
from poller.core.replies import Cause, InProgress, Rejected, Result, Settled, Unavailable, Unclear, error_of
from poller.pyun import PyunPlatform

ADVICE = {
    Cause.BUSY: "the platform is overloaded or down: try again in some minutes, and ask its support if it stays",
    Cause.TIMEOUT: "look at the network and the firewall, and at [platform] timeout_seconds; try again",
    Cause.UNREACHABLE: "look at [platform] url, at DNS, the network and the firewall",
    Cause.TLS: "look at this machine's clock, its CA certificates and the host in [platform] url",
}
WHOSE = "app_secret_file and app_id of this lot, and whether the number is right"


async def ask(config: Config, key: OrderKey) -> Finding:
    """Ask once about an order of a configured lot. Only a payment that is settled or in progress is well."""
    platform = PyunPlatform(config.platform.url, config.lots, timeout=config.platform.timeout)
    try:
        result = await platform.query(key)
    finally:
        await platform.close()
    well = isinstance(result, Settled | InProgress)
    return Finding(well, "query", f"{key.pay_partner}: {_meaning(result)}", _mend(result))


def _meaning(result: Result) -> str:
    match result:
        case Settled(paid=paid):
            meaning = "paid" if paid else "failed"
        case InProgress():
            meaning = "in progress"
        case Rejected():
            meaning = "rejected"
        case _:
            meaning = f"not known: {error_of(result)}"
    reply = result.reply
    fields = {name: value for name, value in reply._asdict().items() if value is not None} if reply else {}
    return f"{meaning} ({', '.join(f'{name} {value}' for name, value in fields.items())})" if fields else meaning


def _mend(result: Result) -> str:
    match result:
        case Settled() | InProgress():
            return ""
        case Rejected():
            return f"look at the hint, at park_uuid, {WHOSE}"
        case Unavailable(cause=cause):
            return ADVICE[cause]
        case Unclear(reply=None):
            return "that is not how the platform speaks: look at [platform] url, and at what stands between"
        case Unclear(reply=reply) if reply is not None and reply.hint:
            return f"the platform hints: {reply.hint} Look at {WHOSE}"
        case Unclear():
            return f"look at {WHOSE}; try again"
        case _:
            assert_never(result)
