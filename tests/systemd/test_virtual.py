"""What no container can show, on a machine with a kernel of its own: the unit's limits, the clock, a power cut.

Several restrictions of the unit forbid the same act. That each of them does is shown by root, who may do all of
it, under that one alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd import probe, submitting, virtual
from tests.systemd.site import CONFIG, Site
from tests.systemd.test_sandbox import FORBIDDEN_TO_ALL, SHOWN, Outcomes
from tests.systemd.virtual import LIBRARY, VirtualMachine

LACKING = virtual.missing()
pytestmark = pytest.mark.skipif(bool(LACKING), reason=f"no virtual machine: {LACKING}")
# What depends on the kernel and the program, not on the release's systemd.
once = pytest.mark.parametrize("release", ["bookworm"], indirect=True, scope="session")

PROBE = f"{LIBRARY}/probe.py"
# By the act: how it goes under the unit; and under one of its restrictions alone.
FORBIDDEN: dict[str, tuple[str, dict[str, str]]] = {
    "set clock": ("EPERM", {"ProtectClock=yes": "EPERM"}),
    "look at clock discipline": ("EPERM", {"ProtectClock=yes": "EPERM"}),
    "load a module": ("EPERM", {"ProtectKernelModules=yes": "EPERM"}),
    "read kernel log": ("EPERM", {"ProtectKernelLogs=yes": "EPERM"}),
    "open kmsg": ("ENOENT", {"ProtectKernelLogs=yes": "EACCES", "PrivateDevices=yes": "ENOENT"}),
    "open tunable": ("ENOENT", {"ProtectKernelTunables=yes": "EROFS", "ProcSubset=pid": "ENOENT"}),
    "touch sys": ("EROFS", {"ProtectKernelTunables=yes": "EROFS", "BindReadOnlyPaths=/sys": "EROFS"}),
    "open disk": ("ENOENT", {"DevicePolicy=closed": "EPERM", "PrivateDevices=yes": "ENOENT"}),
    "socket alg": ("EAFNOSUPPORT", {"RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6": "EAFNOSUPPORT"}),
}
# systemd 257 (Debian 13) leaves /sys writable, against its documentation: MountAPIVFS=yes, which is implied,
# undoes any ReadOnlyPaths=/sys. What refuses the service there is BindReadOnlyPaths=/sys.
NOT_HELD = {("trixie", "touch sys", "ProtectKernelTunables=yes")}
ALONE = [(act, setting, how) for act, (_, alone) in FORBIDDEN.items() for setting, how in alone.items()]


@pytest.fixture(scope="session")
def emulated(bare_root: Path, package: Path) -> Iterator[VirtualMachine]:
    with virtual.disk(bare_root, package) as image, virtual.running(image) as machine:
        yield machine


@pytest.fixture(scope="session")
def sandbox(emulated: VirtualMachine) -> Site:
    """Where acts are tried; the service is configured, and not started."""
    site = Site(emulated)
    site.configure()
    return site


@pytest.fixture(scope="session")
def working(emulated: VirtualMachine) -> Site:
    """The service and its platform, both at work, and no time limit of an order near."""
    site = Site(emulated)
    site.clear()
    site.configure()
    emulated.run("sed", "-i", "s/^.polling.$/[polling]\\nundecided_after_seconds = 3600/", CONFIG)
    site.simulate()
    site.start()
    return site


def inside(site: Site, *acts: str, change: str = "") -> Outcomes:
    """How these acts go under the unit, with a change of one of its settings; empty where it did not end well."""
    lines = "Type=oneshot\nRestart=no\nWatchdogSec=0\nExecStart=\n"
    words = " ".join(f'"{act}"' for act in acts)
    site.drop_in("probe", f"[Service]\n{lines}ExecStart=/opt/poller/bin/python {PROBE} {words}\n{change}\n")
    since = site.machine.now()
    if site.machine.run("systemctl", "start", "poller", check=False).returncode != 0:
        return {}
    records = site.machine.journal(since)
    return told(next(str(r["MESSAGE"]) for r in records if str(r["MESSAGE"]).startswith("probed ")))


def outside(site: Site, *acts: str, options: tuple[str, ...] = ()) -> Outcomes:
    """How these acts go for root without a sandbox."""
    words = ["systemd-run", "--quiet", "--wait", "--pipe", *options]
    return told(site.machine.out(*words, "python3", PROBE, *acts))


def told(line: str) -> Outcomes:
    outcomes: Outcomes = json.loads(line.removeprefix("probed "))
    return outcomes


def test_what_the_unit_forbids_fails_and_succeeds_outside_of_it(sandbox: Site, release: str) -> None:
    forbidden = {act: how for act, (how, _) in FORBIDDEN.items()}
    assert inside(sandbox, *FORBIDDEN) == forbidden
    assert outside(sandbox, *FORBIDDEN) == dict.fromkeys(FORBIDDEN, "done")


@pytest.mark.parametrize(("act", "setting", "how"), ALONE, ids=[f"{act}, {setting}" for act, setting, _ in ALONE])
def test_each_of_the_restrictions_forbids_it_alone(
    sandbox: Site, release: str, act: str, setting: str, how: str
) -> None:
    expected = "done" if (release, act, setting) in NOT_HELD else how
    assert outside(sandbox, act, options=("-p", setting)) == {act: expected}


@once
def test_who_takes_more_memory_than_memory_max_is_killed(sandbox: Site) -> None:
    unhindered = "MemoryHigh=infinity"  # or it would be slowed down to a crawl before it is there
    assert inside(sandbox, "take memory", change=unhindered) == {}
    assert sandbox.machine.show("Result") == "oom-kill"
    change = f"{unhindered}\nMemoryMax=infinity"
    assert inside(sandbox, "take memory", change=change) == {"take memory": "done"}


@once
def test_who_takes_more_memory_than_memory_high_has_to_give_some_back(sandbox: Site) -> None:
    limited = inside(sandbox, "read long file")["read long file"]
    free = inside(sandbox, "read long file", change="MemoryHigh=infinity")["read long file"]
    assert isinstance(limited, int)
    assert isinstance(free, int)
    assert limited <= 260  # MiB; the limit, and what is under way
    assert free >= 320


@once
def test_nobody_starts_more_processes_than_tasks_max(sandbox: Site) -> None:
    assert inside(sandbox, "start many") == {"start many": [62, "EAGAIN"]}, "64 with the probe and the act"
    assert inside(sandbox, "start many", change="TasksMax=infinity") == {"start many": [150, "done"]}


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ("", set()),
        ("RemoveIPC=no", {"POSIX"}),  # that of System V has gone with the service's own namespace
        ("PrivateIPC=no", set()),
        ("PrivateIPC=no\nRemoveIPC=no", {"POSIX", "System V"}),
    ],
    ids=["the unit", "without RemoveIPC", "without PrivateIPC", "without both"],
)
def test_shared_memory_is_gone_once_the_service_has_stopped(sandbox: Site, change: str, left: set[str]) -> None:
    assert inside(sandbox, "leave shared memory", change=change) == {"leave shared memory": "done"}
    removals = {"POSIX": ("rm", probe.SHARED_MEMORY), "System V": ("ipcrm", "-M", str(probe.SEGMENT))}
    found = {kind for kind, words in removals.items() if sandbox.machine.run(*words, check=False).returncode == 0}
    assert found == left


def test_keys_of_the_same_user_outside_of_the_service_are_not_found(sandbox: Site) -> None:
    other = ("--uid=poller", "-p", "KeyringMode=shared")
    assert outside(sandbox, "plant key", options=other) == {"plant key": "done"}
    assert inside(sandbox, "find key") == {"find key": "ENOKEY"}
    found = inside(sandbox, "find key", change="KeyringMode=shared")["find key"]
    assert found == "done" or isinstance(found, int)


def test_nothing_that_a_container_forbids_to_all_is_left_out() -> None:
    settings = {setting.partition("=")[0] for _, setting, _ in ALONE}
    assert {setting for setting, acts in SHOWN.items() if acts.keys() & FORBIDDEN_TO_ALL} <= settings


@once
def test_a_wall_clock_that_is_set_a_day_ahead_and_back_ends_no_order(working: Site) -> None:
    working.submit("pending-a")
    for days in (1, -1):
        before, polls = int(working.machine.out("date", "+%s")), polled(working, "pending-a", 0)
        working.machine.run("date", "-s", f"{days:+} day")
        assert abs(int(working.machine.out("date", "+%s")) - before - days * 86400) < 3600
        polled(working, "pending-a", polls)
    working.submit("settle-1s-b")
    assert working.results("settle-1s-b") == {"settle-1s-b": "paid"}


def polled(site: Site, number: str, more_than: int) -> int:
    """Wait until an order, which stays undecided, was asked about more often than that; how often."""
    by = time.monotonic() + virtual.PATIENCE_S
    while time.monotonic() < by:
        order = site.orders()[number]
        assert (order["state"], order["undecided_at"]) == ("pending", None)
        if order["polls"] > more_than:
            return int(order["polls"])
    raise AssertionError(f"it is not asked about any more: {order}")


@once
def test_no_acknowledged_order_is_lost_where_the_power_is_cut(working: Site, emulated: VirtualMachine) -> None:
    emulated.run("systemctl", "-q", "enable", "poller")
    script = f"{LIBRARY}/submitting.py"
    emulated.run("systemd-run", "--quiet", "python3", script, "settle-1s", "fail-1s", "settle-3s")
    acknowledged = [emulated.told.readline().strip() for _ in range(60)]
    acknowledged += emulated.cut_power()
    emulated.start()
    query = "SELECT count(*) FROM seen"
    count = f"import sqlite3; print(sqlite3.connect({submitting.DATABASE!r}).execute({query!r}).fetchone()[0])"
    rows = int(emulated.out("python3", "-c", count))
    assert rows < len(acknowledged) - 1, "the cut takes what was not brought to the disk"
    kept = working.orders()
    assert [number for number in acknowledged if number not in kept] == []
    assert any(kept[number]["state"] == "pending" for number in acknowledged)
    working.simulate()
    results = working.results(*acknowledged)
    assert results == {number: "failed" if number.startswith("fail") else "paid" for number in acknowledged}
