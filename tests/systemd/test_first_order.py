"""From a bare machine to the first polled order."""

from __future__ import annotations

import time
from pathlib import Path

from tests.systemd.machine import Machine, parsed
from tests.systemd.site import PARK, SECRET, SECRET_FILE, URL, Site, install


def test_one_package_and_one_edited_file_take_a_bare_machine_to_a_polled_order_in_under_a_minute(
    bare: Machine, package: Path
) -> None:
    assert bare.out("ls", "/sys/class/net") == "lo", "there is no network to install from"
    began = time.monotonic()
    site = Site(bare)
    install(bare, package)
    bare.run(
        "sed",
        "-i",
        f's|^park_uuid = ""|park_uuid = "{PARK}"|; s|^# url = "https.*|url = "{URL}"|',
        "/etc/poller/poller.toml",
    )
    bare.write(SECRET_FILE, SECRET + "\n", 0o600)
    bare.run("systemctl", "enable", "--now", "poller")
    assert bare.show("ActiveState") == "active", "READY does not wait for the platform, which nobody can reach yet"
    site.simulate()
    assert site.results("settle-1s-a", "fail-1s-b") == {"settle-1s-a": "paid", "fail-1s-b": "failed"}
    assert time.monotonic() - began < 60


def test_an_installation_starts_nothing_before_it_is_configured_and_says_what_is_missing(
    bare: Machine, package: Path
) -> None:
    install(bare, package)
    assert bare.show("ActiveState") == "inactive"
    assert bare.show("UnitFileState") == "disabled"
    since = bare.now()
    assert bare.run("systemctl", "start", "poller", check=False).returncode == 1
    said = "\n".join(str(record["MESSAGE"]) for record in bare.journal(since))
    assert "[[parks]] #1 park_uuid: expected" in said
    assert "secrets/park-1.secret: No such file or directory" in said
    assert not any(parsed(record) for record in bare.journal(since))
