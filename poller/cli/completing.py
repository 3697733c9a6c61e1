"""What a shell completes from the running daemon, as long as that answers quickly. Nothing here fails."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from shlex import quote

import click

from poller.cli.service import DEFAULT_CONFIG

ANSWER_S = 0.5
RECENT = 50  # of each state

Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def numbers(states: Sequence[str | None] = (None,)) -> Complete:
    """The numbers of recent orders in these states, None for any."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        park = ctx.params.get("park")
        asked: list[dict[str, object]] = [{"state": state, "park_uuid": park} for state in states]
        return _begun(incomplete, _recent(ctx, "orders", "pay_partner", asked))

    return complete


def events(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The ids of recent notices that are dead or still to be sent."""
    return _begun(incomplete, _recent(ctx, "deliveries", "event_id", [{"state": "dead"}, {"state": "pending"}]))


def lots(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The lots that are configured."""
    from poller.config import ConfigError, load_for_client  # noqa: PLC0415  # only where a shell asks

    try:
        return _begun(incomplete, load_for_client(_config(ctx), os.environ).park_uuids)
    except ConfigError:
        return []


def _recent(ctx: click.Context, member: str, name: str, asked: Sequence[dict[str, object]]) -> list[str]:
    from poller.cli.client import DaemonClient  # noqa: PLC0415
    from poller.cli.refusals import DaemonError  # noqa: PLC0415
    from poller.config import ConfigError, load_for_client  # noqa: PLC0415

    async def ask() -> list[str]:
        async with DaemonClient(settings, _config(ctx), answer_s=ANSWER_S) as client:
            pages = [client.get(f"/v1/{member}", {**query, "limit": RECENT}) for query in asked]
            return [item[name] for page in await _together(pages) for item in page[member]]

    try:
        settings = load_for_client(_config(ctx), os.environ)
        return asyncio.run(ask())
    except (ConfigError, DaemonError):
        return []


async def _together(
    calls: Sequence[Awaitable[dict[str, list[dict[str, str]]]]],
) -> list[dict[str, list[dict[str, str]]]]:
    return await asyncio.gather(*calls)


def _config(ctx: click.Context) -> Path:
    return Path(ctx.params.get("path") or DEFAULT_CONFIG)


def _begun(incomplete: str, values: Sequence[str]) -> list[str]:
    """Those that begin so, and that a shell takes as they are."""
    return [value for value in dict.fromkeys(values) if value.startswith(incomplete) and quote(value) == value]
