"""Every restriction of the unit, shown by a forbidden act that fails under it and succeeds outside of it."""

from __future__ import annotations

import errno
import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.systemd import probe
from tests.systemd.machine import Machine
from tests.systemd.site import DEPLOY, Site

PROBE = "/usr/local/lib/probe.py"
CONTROL = "/var/tmp/control"  # the state folder of those outside
# An ELF program for i386 that ends itself with 0, by the 32-bit system call.
HEADER = (
    "7f454c46010101000000000000000000 0200030001000000 5480040834000000 0000000000000000 3400200001000000 00000000"
)
SEGMENT = "0100000000000000 0080040800800408 6000000060000000 0500000000100000"
CODE = "31db 31c0 40 cd80"
THIRTY_TWO = bytes.fromhex(HEADER + SEGMENT + CODE)

SHOWN: dict[str, dict[str, object]] = {
    "UMask": {"write state": "0o600"},
    "StateDirectory": {"state mode": "0o700"},
    "StateDirectoryMode": {"state mode": "0o700"},
    "LoadCredential": {"credentials": {"secrets_park-1.secret": "0o0 read"}, "read secrets": "EACCES"},
    "CapabilityBoundingSet": {"capabilities": ["0" * 16] * 3, "chroot": "EPERM", "make device": "EPERM"},
    "AmbientCapabilities": {"capabilities": ["0" * 16] * 3},
    "NoNewPrivileges": {"new privileges": "1"},
    "ProtectSystem": {
        "write elsewhere": "EROFS",
        "write own program": "EROFS",
        "write configuration": "EROFS",
    },
    "ProtectHome": {"read home": "EACCES"},
    "ProtectHostname": {"set hostname": "EPERM"},
    "ProtectClock": {"look at clock discipline": "EPERM"},
    "ProtectKernelTunables": {"write kernel tunable": "ENOENT", "write sys": "EROFS"},
    "BindReadOnlyPaths": {"write sys": "EROFS"},
    "ProtectKernelModules": {"read modules": "EACCES", "load module": "EPERM"},
    "ProtectKernelLogs": {"read kernel log": "EPERM", "open kmsg": "ENOENT"},
    "ProtectControlGroups": {"make cgroup": "EROFS"},
    "ProtectProc": {"see others": []},
    "ProcSubset": {"read memory of machine": "ENOENT"},
    "PrivateTmp": {"read tmp of others": "ENOENT"},
    "PrivateDevices": {"see console": "ENOENT"},
    "PrivateUsers": {"see users": 65534},
    "PrivateMounts": {"mount": "EPERM"},
    "PrivateIPC": {"find queue": "ENOENT"},
    "DevicePolicy": {"make device": "EPERM"},
    "RestrictNamespaces": {f"namespace {name}": "EPERM" for name in probe.NEW_NAMESPACES},
    "RestrictRealtime": {"become realtime": "EPERM"},
    "RestrictSUIDSGID": {"make setuid": "EPERM"},
    "RestrictAddressFamilies": {
        f"socket {name}": "EAFNOSUPPORT" for name in ("packet", "netlink", "vsock", "alg")
    },
    "LockPersonality": {"change personality": "EPERM"},
    "MemoryDenyWriteExecute": {
        "write and execute": ("EPERM", "EACCES"),
        "write then execute": ("EPERM", "EACCES"),
    },
    "SystemCallArchitectures": {"run 32-bit": "SIGSYS"},
    "SystemCallFilter": {"trace": "EPERM", "change priority": "EPERM", "choose processors": "EPERM"},
    "SystemCallErrorNumber": {"trace": "EPERM"},
    "LimitCORE": {"core limit": [0, 0]},
    "LimitNOFILE": {"file limit": 16384},
}
# What test_virtual shows, for a container cannot: its kernel gives it no such limit, or forbids the act to all.
ONLY_LOADED = {
    "MemoryHigh": str(256 * 2**20),
    "MemoryMax": str(512 * 2**20),
    "TasksMax": "64",
    "RemoveIPC": "yes",
    "KeyringMode": "private",
}
FORBIDDEN_TO_ALL = {
    "look at clock discipline",
    "load module",
    "read kernel log",
    "open kmsg",
    "write sys",
    "socket alg",
}
NO_RESTRICTIONS = {
    *("Type", "NotifyAccess", "ExecStart", "ExecReload", "Restart", "RestartSec", "RestartPreventExitStatus"),
    *("TimeoutStartSec", "TimeoutStopSec", "TimeoutAbortSec", "WatchdogSec", "Environment", "User", "Group"),
    *("RuntimeDirectory", "RuntimeDirectoryMode", "SyslogIdentifier", "LogRateLimitIntervalSec"),
}
FAILURES = [*errno.errorcode.values(), *(number.name for number in signal.Signals)]
Outcomes = dict[str, object]


@dataclass(frozen=True, slots=True)
class Seen:
    """How each act went: for the service, for root outside of its sandbox, for its user outside of it."""

    service: Outcomes
    root: Outcomes
    user: Outcomes


@pytest.fixture(scope="session")
def seen(shared: Machine) -> Iterator[Seen]:
    site = Site(shared)
    site.clear()
    site.configure()
    _set_out(shared)
    root = _outside(shared, "--setenv=MAKES_QUEUE=1")
    user = _outside(shared, "--uid=poller")
    lines = f"Type=oneshot\nRestart=no\nWatchdogSec=0\nExecStart=\nExecStart=/opt/poller/bin/python {PROBE}\n"
    site.drop_in("probe", f"[Service]\n{lines}")
    since = shared.now()
    site.start()
    service = next(r for r in shared.journal(since) if str(r["MESSAGE"]).startswith("probed "))
    yield Seen(_told(service["MESSAGE"]), root, user)
    site.clear()


def _set_out(machine: Machine) -> None:
    """What the acts want to reach."""
    machine.write(PROBE, Path(probe.__file__).read_text())
    binary = machine.root / probe.THIRTY_TWO.removeprefix("/")
    binary.write_bytes(THIRTY_TWO)
    binary.chmod(0o755)
    folders = f"{probe.OPEN_FOLDER} {CONTROL} {probe.HOME} {probe.MODULES}"
    machine.run("sh", "-c", f"mkdir -p {folders}; chmod 777 {probe.OPEN_FOLDER} {CONTROL}; echo >{probe.MARK}")
    machine.run("sh", "-c", f"touch {probe.OWNED}; chown daemon {probe.OWNED}")
    machine.run("install", "-m", "4755", "/usr/bin/id", probe.SETUID)


def _outside(machine: Machine, *options: str) -> Outcomes:
    words = ["systemd-run", "--quiet", "--wait", "--pipe", f"--setenv=STATE_DIRECTORY={CONTROL}", *options]
    return _told(machine.out(*words, "python3", PROBE))


def _told(line: str) -> Outcomes:
    outcomes: Outcomes = json.loads(line.removeprefix("probed "))
    return outcomes


@pytest.mark.parametrize("setting", SHOWN)
def test_what_the_unit_forbids_fails(seen: Seen, setting: str) -> None:
    for act, expected in SHOWN[setting].items():
        assert seen.service[act] in (expected if isinstance(expected, tuple) else (expected,)), act


@pytest.mark.parametrize("setting", SHOWN)
def test_the_same_succeeds_outside_of_the_sandbox(seen: Seen, setting: str) -> None:
    for act in SHOWN[setting].keys() - FORBIDDEN_TO_ALL:
        outside = [how for how in (seen.root[act], seen.user[act]) if how not in FAILURES]
        assert outside, act
        assert seen.service[act] not in outside, act


def test_no_program_raises_its_privileges(seen: Seen) -> None:
    assert seen.user["run setuid"] == "0"
    assert seen.service["run setuid"] == str(seen.service["user"]) != "0"


def test_what_the_service_needs_is_allowed(seen: Seen) -> None:
    assert {seen.service[f"socket {family}"] for family in ("unix", "inet", "inet6")} == {"done"}


@pytest.mark.parametrize(("setting", "value"), ONLY_LOADED.items())
def test_what_no_act_can_show_in_a_container_is_in_force(shared: Machine, setting: str, value: str) -> None:
    assert shared.show(setting) == value


def test_no_restriction_of_the_unit_goes_without_an_act() -> None:
    service = (DEPLOY / "poller.service").read_text().partition("[Service]")[2].partition("[Install]")[0]
    settings = {line.partition("=")[0] for line in service.splitlines() if "=" in line and line[0] != "#"}
    assert settings == {*SHOWN, *ONLY_LOADED, *NO_RESTRICTIONS}


def test_the_exposure_is_at_most_1_2(shared: Machine) -> None:
    shared.run(
        "systemd-analyze", "security", "--offline=true", "--threshold=12", "/usr/lib/systemd/system/poller.service"
    )
