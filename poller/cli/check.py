"""`poller check`: everything the daemon needs, a line for each, with what to do about it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import click

from poller.cli.asking import ask
from poller.cli.client import DaemonClient
from poller.cli.completing import lots, numbers
from poller.cli.failing import FAILED, NEEDS_A_PERSON
from poller.cli.options import config_option, json_option, readable_number
from poller.cli.printing import print_json, shown
from poller.cli.probes import Finding, is_held, look_at_store, reach
from poller.cli.refusals import DaemonError
from poller.cli.running import look_at_daemon
from poller.cli.service import MISSING, STATE_FOLDER, check_as_the_service, remedies, unread_secrets
from poller.config import Config, ConfigError, load, load_for_client, load_store
from poller.core.orders import OrderKey

NO_WEBHOOK = Finding(
    True,
    "webhook",
    "none is configured: results go to the log alone",
    "to have them sent, set [webhook] url and secret_file",
)


@click.command()
@click.option(
    "--query",
    metavar="PAY_PARTNER",
    callback=readable_number,
    shell_complete=numbers(),
    help="Ask the platform once about this order, and show its reply.",
)
@click.option(
    "--park", metavar="UUID", shell_complete=lots, help="The lot to ask about; not needed where one is configured."
)
@json_option
@config_option
def check(query: str | None, park: str | None, as_json: bool, path: Path) -> None:
    """Check configuration, store, platform and webhook.

    A line for each, with what to do about it. --query makes one real query and shows the reply.
    """
    if park is not None and query is None:
        raise click.UsageError("--park says which lot --query asks about: give --query, too")
    try:
        config = load(path, os.environ)
    except ConfigError as error:
        findings = asyncio.run(_wrong(error.faults, path))
    else:
        key = None if query is None else OrderKey(_lot(config, park), query)
        findings = asyncio.run(_look_around(config, key))
    _print(findings, as_json)
    codes = [finding.code for finding in findings if not finding.ok]
    if codes:
        raise click.exceptions.Exit(NEEDS_A_PERSON if NEEDS_A_PERSON in codes else FAILED)


def _lot(config: Config, park: str | None) -> str:
    known = ", ".join(config.lots)
    if park is None and len(config.lots) == 1:
        return next(iter(config.lots))
    if park is None:
        raise click.UsageError(f"say which lot with --park ({known})")
    if park not in config.lots:
        raise click.UsageError(f"lot {shown(park)} is not configured in {config.path}; configured: {known}")
    return park


async def _wrong(faults: Sequence[str], path: Path) -> list[Finding]:
    """The faults of a configuration, each with what to do."""
    findings = []
    for fault in faults:
        missing = MISSING in unread_secrets([fault]) and not os.environ.get("CREDENTIALS_DIRECTORY")
        advice = remedies([fault])
        mend = advice[0] if advice else "change that in the file"
        if missing:
            mend = "put the file there" + (await _has_it(path))
        findings.append(Finding(False, "configuration", fault, mend, NEEDS_A_PERSON))
    return findings


async def _has_it(path: Path) -> str:
    """What to do where the running daemon may have a secret that this command does not find."""
    service = f"its credentials, and the check does, too, as `{check_as_the_service(path)}`"
    try:
        async with DaemonClient(load_for_client(path, os.environ), path) as client:
            await client.readiness()
    except (ConfigError, DaemonError):
        return f"; under systemd the running daemon finds it in {service}"
    return f"; or, since the daemon runs: under systemd it finds the file in {service}"


async def _look_around(config: Config, key: OrderKey | None) -> list[Finding]:
    platform, webhook = config.platform, config.webhook
    async with (
        DaemonClient(load_for_client(config.path, os.environ), config.path) as client,
        asyncio.TaskGroup() as group,
    ):
        store = group.create_task(look_at_store(config.store.url, config.store.password))
        reached = group.create_task(reach("platform", platform.url, platform.timeout))
        hooked = group.create_task(reach("webhook", webhook.url, webhook.timeout)) if webhook else None
        daemon = group.create_task(look_at_daemon(client))
        answer = group.create_task(ask(config, key)) if key else None
    return [
        Finding(True, "configuration", f"{config.path} is sound"),
        Finding(True, "secrets", _secrets(config)),
        _elsewhere(config) if _has_another_store(config, daemon.result()) else store.result(),
        reached.result(),
        hooked.result() if hooked else NO_WEBHOOK,
        *daemon.result(),
        *([answer.result()] if answer else []),
    ]


def _secrets(config: Config) -> str:
    kinds = [f"{len(config.lots)} of lots"]
    kinds += ["the intake's token"] if config.intake.token else []
    kinds += ["the webhook's"] if config.webhook else []
    return "readable, and not by others: " + ", ".join(kinds)


def _has_another_store(config: Config, daemon: Sequence[Finding]) -> bool:
    """Whether a daemon of this configuration runs that was given a state directory, unlike this command."""
    runs = len(daemon) > 1 and daemon[0].ok
    if not runs or os.environ.get("STATE_DIRECTORY") or is_held(config.store.url):
        return False
    return load_store(config.path, {**os.environ, "STATE_DIRECTORY": STATE_FOLDER}).url != config.store.url


def _elsewhere(config: Config) -> Finding:
    found = (
        f"the running daemon does not hold {config.store.url}: under systemd its store is in its state directory"
    )
    return Finding(True, "store", found, f"look there with `{check_as_the_service(config.path)}`")


def _print(findings: Sequence[Finding], as_json: bool) -> None:
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        if as_json:
            print_json(
                {"ok": finding.ok, "what": finding.what, "found": finding.found, "do": finding.mend or None}
            )
        else:
            mend = f"; {finding.mend}" if finding.mend else ""
            verdict = "ok  " if finding.ok else "FAIL"
            click.echo(f"{verdict}  {finding.what.ljust(width)}  {shown(finding.found + mend)}")
