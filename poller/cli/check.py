"""`poller check`: everything the daemon needs, a line for each, with what to do about it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import click

from poller.cli.client import DaemonClient, DaemonError, NotRunningError
from poller.cli.failing import FAILED, NEEDS_A_PERSON
from poller.cli.options import config_option, json_option, readable_number
from poller.cli.printing import print_json, shown
from poller.cli.probes import Finding, look_at_store, reach
from poller.config import ClientSettings, Config, ConfigError, load
from poller.core.orders import OrderKey
from poller.core.replies import InProgress, Rejected, Result, Settled, error_of, is_usable, reply_of
from poller.pyun import PyunPlatform


@click.command()
@click.option(
    "--query",
    metavar="PAY_PARTNER",
    callback=lambda *given: given[2] and readable_number(*given),
    help="Ask once.",
)
@click.option("--park", metavar="UUID", help="The lot to ask about; not needed where one is configured.")
@json_option
@config_option
def check(query: str | None, park: str | None, as_json: bool, path: Path) -> None:
    """Check configuration, store, platform and webhook.

    A line for each, with what to do about it. --query makes one real query and shows the reply.
    """
    try:
        config = load(path, os.environ)
    except ConfigError as error:
        _print([Finding(False, "configuration", fault) for fault in error.faults], as_json)
        raise click.exceptions.Exit(NEEDS_A_PERSON) from None
    findings = [
        Finding(True, "configuration", f"{path} is sound"),
        Finding(True, "secrets", _secrets(config)),
        *asyncio.run(_look_around(config)),
    ]
    if query is not None:
        findings.append(asyncio.run(_query(config, OrderKey(_lot(config, park), query))))
    _print(findings, as_json)
    if not all(finding.ok for finding in findings):
        raise click.exceptions.Exit(FAILED)


def _secrets(config: Config) -> str:
    kinds = [f"{len(config.lots)} of lots"]
    kinds += ["the intake's token"] if config.intake.token else []
    kinds += ["the webhook's"] if config.webhook else []
    return "readable, and not by others: " + ", ".join(kinds)


def _lot(config: Config, park: str | None) -> str:
    if park is None and len(config.lots) == 1:
        return next(iter(config.lots))
    if park not in config.lots:
        raise click.UsageError(f"say which lot with --park ({', '.join(config.lots)})")
    return str(park)


async def _look_around(config: Config) -> list[Finding]:
    platform, webhook = config.platform, config.webhook
    probes = [
        asyncio.to_thread(look_at_store, config.store.url),
        reach("platform", platform.url, platform.timeout),
        *([reach("webhook", webhook.url, webhook.timeout)] if webhook else []),
        _daemon(config),
    ]
    findings = await asyncio.gather(*probes)
    if not webhook:
        findings.append(Finding(True, "webhook", "none is configured: results go to the log alone"))
    return findings


async def _daemon(config: Config) -> Finding:
    """A daemon that does not run is no fault: one checks before starting it, too."""
    listen = config.intake.listen
    async with DaemonClient(ClientSettings(config.intake, ())) as client:
        try:
            await client.get("/healthz")
        except NotRunningError:
            return Finding(True, "daemon", f"not running on {listen}")
        except DaemonError as error:
            return Finding(False, "daemon", str(error), "stop what listens there, or change [intake] listen")
        try:
            await client.get("/v1/orders", {"limit": 1})
        except DaemonError as error:
            return Finding(False, "daemon", f"it refuses: {error}", "restart it to take over this configuration")
    return Finding(True, "daemon", f"answers on {listen}")


async def _query(config: Config, key: OrderKey) -> Finding:
    platform = PyunPlatform(config.platform.url, config.lots, timeout=config.platform.timeout, max_concurrency=1)
    try:
        result = await platform.query(key)
    finally:
        await platform.close()
    return Finding(
        is_usable(result) and not isinstance(result, Rejected),
        "query",
        f"{key.pay_partner}: {_meaning(result)}",
        "look at the hint, at app_secret_file and at park_uuid" if isinstance(result, Rejected) else "",
    )


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
    reply = reply_of(result)
    fields = {name: value for name, value in asdict(reply).items() if value is not None} if reply else {}
    return f"{meaning} ({', '.join(f'{name} {value}' for name, value in fields.items())})" if fields else meaning


def _print(findings: Iterable[Finding], as_json: bool) -> None:
    for finding in findings:
        if as_json:
            print_json(
                {"ok": finding.ok, "what": finding.what, "found": finding.found, "do": finding.mend or None}
            )
        else:
            mend = f"; {finding.mend}" if finding.mend else ""
            click.echo(
                f"{'ok  ' if finding.ok else 'FAIL'}  {finding.what.ljust(13)}  {shown(finding.found + mend)}"
            )
