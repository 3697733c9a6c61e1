"""What `poller check` learns from the running daemon: that it answers, and how platform and store are to it."""

from __future__ import annotations

from typing import Any

from poller.cli.asking import ADVICE
from poller.cli.client import DaemonClient
from poller.cli.printing import shown, to_the_second
from poller.cli.probes import Finding, advised
from poller.cli.refusals import DaemonError, NotRunningError, UnreachableError
from poller.cli.service import start_command
from poller.core.replies import Cause

FREE_IT = "stop what listens there, or change [intake] listen"


async def look_at_daemon(client: DaemonClient) -> list[Finding]:
    """A line for the daemon and, where it runs, for what it says of platform and store.

    A daemon that does not run is no fault: one checks before starting it, too.
    """
    try:
        state = await client.readiness()
    except NotRunningError:
        mend = f"start it with `{start_command(client.config)}`"
        return [Finding(True, "daemon", f"not running on {client.listen}", mend)]
    except UnreachableError as error:
        return [advised("daemon", str(error))]
    except DaemonError as error:
        return [Finding(False, "daemon", str(error), FREE_IT)]
    if not isinstance(state, dict) or not {"platform", "store"} <= state.keys():
        return [Finding(False, "daemon", f"what listens on {client.listen} is not poller's daemon", FREE_IT)]
    try:
        state = await client.get("/v1/summary")
    except DaemonError as error:
        answers = advised("daemon", str(error))
    else:
        answers = Finding(True, "daemon", f"answers on {client.listen}, version {state['version']}")
    return [answers, _platform(state["platform"]), _store(state["store"])]


def _platform(platform: dict[str, Any]) -> Finding:
    since = f" since {to_the_second(platform['since'])}" if platform.get("since") else ""
    if platform["status"] == "up":
        return Finding(True, "daemon: platform", f"up{since}, to the running daemon")
    kind = platform.get("kind")
    mend = ADVICE[Cause(kind)] if kind else "look at [platform] url, at DNS, the network and the firewall"
    found = f"down{since}, to the running daemon: {shown(platform.get('cause'))}"
    return Finding(False, "daemon: platform", found, mend)


def _store(store: dict[str, Any]) -> Finding:
    if store["status"] == "ok":
        return Finding(True, "daemon: store", "orders can be taken on")
    return advised("daemon: store", f"no order can be taken on: {shown(store.get('cause'))}")
