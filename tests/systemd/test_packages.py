"""Upgrades that go back by themselves, removal, purge."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.systemd import variants
from tests.systemd.machine import Machine, Record, after, parsed
from tests.systemd.site import CONFIG, SECRET_FILE, Site, bring, install

UPGRADE = "/usr/lib/poller/upgrade"
BEFORE = "/var/lib/poller-packages/before.deb"
# What depends on the upgrade's own code alone, and not on the release.
on_one_release = pytest.mark.parametrize("release", ["bookworm"], indirect=True, scope="session")
NUMBERS = ("paid-after-1-queries-a", "pending-b", "reject-c")


@pytest.fixture
def running(site: Site, package: Path) -> Iterator[Site]:
    """The service with orders of every kind, one of them still pending; the same version again afterwards."""
    site.simulate()
    site.start()
    site.submit(*NUMBERS)
    assert site.results("paid-after-1-queries-a") == {"paid-after-1-queries-a": "paid"}
    before = version(site.machine)
    yield site
    if version(site.machine) != before:
        site.machine.run("systemctl", "stop", "poller")
        site.machine.run("dpkg", "-i", f"/root/{package.name}")


def version(machine: Machine) -> str:
    return machine.out("dpkg-query", "-W", "-f", "${Version}", "poller")


def upgrade(machine: Machine, package: str, *options: str) -> subprocess.CompletedProcess[str]:
    return machine.run(UPGRADE, package, "--watch", "1", *options, check=False)


def runs(number: str) -> Callable[[Record], bool]:
    """Whether a record says that this version has started."""
    return lambda record: parsed(record).get("version") == number


def facts(site: Site) -> dict[str, tuple[str, str]]:
    """What must not be lost of each order."""
    return {number: (order["state"], order["accepted_at"]) for number, order in site.orders().items()}


def test_an_upgrade_keeps_every_order_and_can_be_taken_back_later(
    running: Site, package: Path, tmp_path: Path
) -> None:
    machine, before, old = running.machine, facts(running), version(running.machine)
    new = bring(machine, variants.variant(package, tmp_path, "9.0", variants.good))
    done = upgrade(machine, new)
    assert (done.returncode, version(machine)) == (0, "9.0"), done.stdout + done.stderr
    assert machine.out("poller", "--version").endswith("9.0")
    assert machine.show("ActiveState") == "active"
    assert facts(running) == before
    back = upgrade(machine, BEFORE)
    assert (back.returncode, version(machine)) == (0, old), back.stdout + back.stderr
    assert facts(running) == before


BAD = {
    "crashes": (variants.crashes_at_the_start, "it does not start"),
    "cannot be installed": (variants.cannot_be_installed, "cannot be installed"),
    "changes the store and is never ready": (variants.changes_the_store_and_is_never_ready, "/readyz: 503"),
}


@pytest.mark.parametrize(("change", "says"), BAD.values(), ids=list(BAD))
def test_a_bad_upgrade_is_back_on_the_old_version_with_every_order_intact(
    running: Site, package: Path, tmp_path: Path, change: variants.Change, says: str
) -> None:
    machine, before, old = running.machine, facts(running), version(running.machine)
    new = bring(machine, variants.variant(package, tmp_path, "9.1", change))
    began = time.monotonic()
    done = upgrade(machine, new)
    assert time.monotonic() - began < 30
    assert done.returncode == 1, done.stdout + done.stderr
    assert says in done.stdout
    assert f"went back: {old} runs" in done.stdout
    assert version(machine) == old
    assert machine.out("dpkg", "--audit") == ""
    assert machine.show("ActiveState") == "active"
    assert (
        machine.run("test", "-e", "/run/systemd/system/poller.service.d/trial.conf", check=False).returncode == 1
    )
    assert facts(running) == before
    assert running.results("paid-after-1-queries-d") == {"paid-after-1-queries-d": "paid"}


@on_one_release
def test_orders_that_a_version_took_on_which_then_fell_are_handed_in_again(
    running: Site, package: Path, tmp_path: Path
) -> None:
    machine, before, old = running.machine, facts(running), version(running.machine)
    new = bring(machine, variants.variant(package, tmp_path, "9.2", variants.changes_the_store))
    since = machine.now()
    with machine.background(UPGRADE, new, "--watch", "30") as upgrading:
        for _ in ("behind closed doors", "for good"):
            since = after(machine.until(since, runs("9.2")))
        machine.run("poller", "submit", "pending-new", "--metadata", '{"lane": 3}')
        machine.run("systemctl", "kill", "-s", "KILL", "poller")
        said = upgrading.communicate()[0]
    assert upgrading.returncode == 1, said
    assert "9.2 is not up to it" in said
    assert f"went back: {old} runs on the copy from before the upgrade; orders handed in again: 1" in said
    assert facts(running).keys() == {*before, "pending-new"}
    assert {number: fact for number, fact in facts(running).items() if number in before} == before
    assert running.orders()["pending-new"]["metadata"] == {"lane": 3}


@on_one_release
def test_while_a_new_version_is_tried_nobody_can_hand_it_an_order(
    running: Site, package: Path, tmp_path: Path
) -> None:
    machine = running.machine
    new = bring(machine, variants.variant(package, tmp_path, "9.3", variants.answers_late))
    since = machine.now()
    with machine.background(UPGRADE, new, "--watch", "0") as upgrading:
        since = after(machine.until(since, runs("9.3")))
        refused = machine.run("poller", "submit", "pending-d", check=False)
        machine.until(since, runs("9.3"))
        machine.run("poller", "submit", "pending-e")
        said = upgrading.communicate()[0]
    assert upgrading.returncode == 0, said
    assert (refused.returncode, "no daemon listens" in refused.stderr) == (1, True)
    assert facts(running).keys() == {*NUMBERS, "pending-e"}


@on_one_release
def test_a_service_that_does_not_run_is_only_upgraded(site: Site, package: Path, tmp_path: Path) -> None:
    new = bring(site.machine, variants.variant(package, tmp_path, "9.4", variants.good))
    done = upgrade(site.machine, new)
    assert (done.returncode, version(site.machine)) == (0, "9.4")
    assert "only installed" in done.stdout
    assert site.machine.show("ActiveState") == "inactive"
    site.machine.run("dpkg", "-i", f"/root/{package.name}")


@on_one_release
def test_another_package_is_refused(site: Site, package: Path) -> None:
    assert upgrade(site.machine, "/usr/bin/id").returncode == 2


def test_apt_upgrades_restart_the_service_and_keep_the_configuration(
    running: Site, package: Path, tmp_path: Path
) -> None:
    machine, before, config = running.machine, facts(running), running.machine.out("cat", CONFIG)
    pid = machine.show("MainPID")
    install(machine, variants.variant(package, tmp_path, "9.5", variants.good))
    assert machine.show("ActiveState") == "active"
    assert machine.show("MainPID") != pid
    assert machine.out("cat", CONFIG) == config
    assert facts(running) == before


def test_removal_keeps_the_store_and_purge_does_not(bare: Machine, package: Path) -> None:
    site = Site(bare)
    install(bare, package)
    site.configure()
    bare.run("systemctl", "enable", "--now", "poller")
    site.submit("pending-a")
    bare.run("apt-get", "remove", "-y", "-q", "poller")
    assert bare.run("systemctl", "is-active", "poller", check=False).stdout.strip() == "inactive"
    bare.run("test", "!", "-e", "/opt/poller")
    kept = ("/var/lib/poller/poller.db", CONFIG, SECRET_FILE)
    bare.run("ls", *kept)
    install(bare, package)
    assert bare.show("ActiveState") == "inactive"
    bare.run("systemctl", "enable", "--now", "poller")
    assert json.loads(bare.out("poller", "list", "--json"))["pay_partner"] == "pending-a"
    bare.run("apt-get", "purge", "-y", "-q", "poller")
    left = (
        "find / -xdev -name '*poller*' -not -path '/root/*' -not -path '/var/lib/dpkg/*' -not -path '/var/log/*'"
    )
    found = bare.out("sh", "-c", f"{left} -not -path '/proc/*' -not -path '/sys/*' 2>/dev/null; true")
    assert [path for path in found.splitlines() if not path.startswith("/var/cache/")] == []
