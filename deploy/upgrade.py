#!/usr/bin/python3 -I
"""Upgrades the service to a new package, and goes back by itself where the new version is not up to it.

The installed version is kept as a package, the store is copied while nothing writes to it, and the new version is
first tried behind closed doors: in a network of its own, where it takes no order on and asks nobody.
"""
# ruff: noqa: T201, S603

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import syslog
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

CONFIG = Path("/etc/poller/poller.toml")
KEPT = Path("/var/lib/poller-packages")
TRIAL = Path("/run/systemd/system/poller.service.d/trial.conf")
DOORS_CLOSED = "[Service]\nPrivateNetwork=yes\nRuntimeDirectoryMode=0700\nRestart=no\n"
INFO = Path("/var/lib/dpkg/info")

UPGRADED, WENT_BACK, STUCK = 0, 1, 3


class UnfitError(Exception):
    """Why a version does not stay."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="upgrade", description=__doc__)
    parser.add_argument("package", type=Path, metavar="NEW.deb")
    parser.add_argument(
        "--watch", type=float, default=10.0, metavar="SECONDS", help="how long the new version must hold"
    )
    given = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("has to be root")
    try:
        name = read_field(given.package, "Package")
    except subprocess.CalledProcessError:
        name = ""  # dpkg-deb has said why
    if name != "poller":
        parser.error(f"{given.package} is not a package of poller")
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)  # a lost terminal must not stop it half way
    KEPT.mkdir(mode=0o700, exist_ok=True)
    with (KEPT / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            parser.error("another upgrade is under way")
        return upgrade(given.package, given.watch)


def upgrade(package: Path, watch_s: float) -> int:
    new, old = read_field(package, "Version"), installed_version()
    coming = Path(shutil.copy(package, KEPT / "coming.deb"))
    if not is_active():
        say("poller does not run: the package is only installed")
        return subprocess.run(["/usr/bin/dpkg", "-i", coming], check=False).returncode
    try:
        store_path()
        say(f"{old} is kept as {keep_installed()}")
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        say(f"nothing was changed, {old} runs: {error}")
        return WENT_BACK
    began = time.time()
    run("systemctl", "stop", "poller")
    try:
        copy = copy_store()
    except (UnfitError, OSError) as error:
        run("systemctl", "start", "poller")
        say(f"nothing was changed, {old} runs: the store could not be copied: {error}")
        return WENT_BACK
    try:
        install(coming)
        with doors_closed():
            start_and_probe()
        start_and_probe()
        hold(watch_s)
    except (UnfitError, OSError, subprocess.CalledProcessError) as error:
        say(f"{new} is not up to it: {error}")
        return go_back(old, copy, began)
    say(f"{new} runs and is ready; to go back to {old}: /usr/lib/poller/upgrade {KEPT / 'before.deb'}")
    return UPGRADED


def go_back(old: str, copy: Path | None, began: float) -> int:
    """The old version on the store as it is, or, where it cannot read that any more, on the copy."""
    attempt("systemctl", "stop", "poller")
    try:
        install(KEPT / "before.deb")
        try:
            start_and_probe()
            say(f"went back: {old} runs, its state intact")
        except UnfitError as error:
            if copy is None:
                raise
            say(f"{old} cannot go on with the store as it is now: {error}")
            attempt("systemctl", "stop", "poller")
            put_back(copy)
            start_and_probe()
            again = hand_in_again(began)
            say(f"went back: {old} runs on the copy from before the upgrade; orders handed in again: {again}")
    except UnfitError as error:
        say(f"{old} does not run either: {error}; its package and the store's copy are in {KEPT}")
        return STUCK
    return WENT_BACK


def install(package: Path) -> None:
    """Raises UnfitError."""
    if attempt("dpkg", "--force-downgrade", "-i", str(package)):
        raise UnfitError("the package cannot be installed")


def start_and_probe() -> None:
    """Start (which waits for READY) and ask /readyz. Raises UnfitError."""
    if attempt("systemctl", "restart", "poller"):
        raise UnfitError(f"it does not start: {last_words()}")
    probe()


def probe() -> None:
    """Raises UnfitError where /readyz does not say 200."""
    pid = show("MainPID")
    if pid == "0":
        raise UnfitError(f"it has ended: {last_words()}")
    asked = subprocess.run(
        ["/usr/bin/nsenter", "--target", pid, "--net", "/usr/lib/poller/ready"],
        check=False,
        capture_output=True,
        text=True,
    )
    if asked.returncode != 0:
        raise UnfitError(f"/readyz: {asked.stdout.strip() or asked.stderr.strip()}")


def hold(seconds: float) -> None:
    """Raises UnfitError where the daemon is not ready all the time, or is started again."""
    until, pid = time.monotonic() + seconds, show("MainPID")
    while time.monotonic() < until:
        time.sleep(min(1.0, seconds))
        probe()
        if show("MainPID") != pid:
            raise UnfitError(f"it did not hold: {last_words()}")


@contextlib.contextmanager
def doors_closed() -> Iterator[None]:
    """The unit has a network of its own meanwhile."""
    TRIAL.parent.mkdir(parents=True, exist_ok=True)
    TRIAL.write_text(DOORS_CLOSED)
    run("systemctl", "daemon-reload")
    try:
        yield
    finally:
        TRIAL.unlink()
        run("systemctl", "daemon-reload")


def keep_installed() -> Path:
    """A package of what is installed; it does not depend on anybody having kept the file."""
    tree, kept = KEPT / "tree", KEPT / "before.deb"
    shutil.rmtree(tree, ignore_errors=True)
    (tree / "DEBIAN").mkdir(parents=True)
    owned = run("dpkg-query", "-L", "poller").splitlines()
    for path in (Path(line) for line in owned):
        to = tree / path.relative_to("/")
        if path.is_symlink() or path.is_file():
            shutil.copy2(path, to, follow_symlinks=False)
        elif path.is_dir():
            to.mkdir(exist_ok=True)
            shutil.copystat(path, to)
    for script in ("postinst", "prerm", "postrm", "md5sums"):
        shutil.copy2(INFO / f"poller.{script}", tree / "DEBIAN" / script)
    fields = run("dpkg-query", "-s", "poller").splitlines()
    control = [line for line in fields if not line.startswith("Status:")]
    (tree / "DEBIAN" / "control").write_text("\n".join(control) + "\n")
    run("dpkg-deb", "--root-owner-group", "-Zzstd", "-z1", "-b", str(tree), str(kept))
    shutil.rmtree(tree)
    return kept


def store_path() -> Path | None:
    """The store's file; None where it is not in one."""
    url = tomllib.loads(CONFIG.read_text()).get("store", {}).get("url", "sqlite:////var/lib/poller/poller.db")
    return CONFIG.parent / url.removeprefix("sqlite:///") if url.startswith("sqlite:///") else None


def copy_store() -> Path | None:
    """A copy of the store, which is in no use now. Raises UnfitError."""
    path, copy = store_path(), KEPT / "before.db"
    copy.unlink(missing_ok=True)
    if path is None or not path.exists():
        return None
    done = subprocess.run(
        ["/usr/bin/poller", "backup", copy, "--config", CONFIG], check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise UnfitError(done.stderr.strip())
    say(done.stdout.strip())
    return copy


def put_back(copy: Path) -> None:
    """The copy in the store's place; what was there is kept."""
    path = store_path()
    assert path is not None, "there was a copy"  # noqa: S101
    owner = path.stat()
    for ending in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            shutil.move(f"{path}{ending}", KEPT / f"failed.db{ending}")
    coming = path.with_name(path.name + ".coming")
    shutil.copyfile(copy, coming)
    os.chmod(coming, 0o600)  # noqa: PTH101
    os.chown(coming, owner.st_uid, owner.st_gid)
    with coming.open("rb") as file:
        os.fsync(file.fileno())
    coming.replace(path)
    say(f"the copy is in place again; the store that the new version left is {KEPT / 'failed.db'}")


def hand_in_again(since: float) -> int:
    """The orders that the journal says were taken on since then; those that the store has are recognised."""
    lines = run("journalctl", "-u", "poller", "-o", "cat", "--since", f"@{int(since)}").splitlines()
    number = 0
    for line in lines:
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict) and record.get("event") == "order.accepted":
                metadata = json.dumps(record.get("metadata") or {})
                order = ["--park", record["park_uuid"], "--metadata", metadata, "--", record["pay_partner"]]
                number += not attempt("poller", "submit", *order)
    return number


def installed_version() -> str:
    return run("dpkg-query", "-W", "-f", "${Version}", "poller")


def read_field(package: Path, field: str) -> str:
    return run("dpkg-deb", "-f", str(package), field).strip()


def is_active() -> bool:
    return show("ActiveState") == "active"


def show(name: str) -> str:
    """A property of the unit."""
    return run("systemctl", "show", "-P", name, "poller").strip()


def last_words() -> str:
    """What the journal says why."""
    lines = run("journalctl", "-u", "poller", "-o", "cat", "-n", "20", "_SYSTEMD_UNIT=poller.service").splitlines()
    return lines[-1] if lines else f"result {show('Result')}, status {show('ExecMainStatus')}"


def run(*words: str) -> str:
    """A command that has to succeed; its stdout."""
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout


def attempt(*words: str) -> int:
    """A command whose failure is an answer; its exit code."""
    return subprocess.run(words, check=False, stdout=subprocess.DEVNULL).returncode


def say(what: str) -> None:
    """To the terminal, which may be gone, and to the journal."""
    syslog.syslog(what)
    with contextlib.suppress(OSError):
        print(f"upgrade: {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
