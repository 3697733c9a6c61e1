"""The service's life: it starts, goes on after whatever ends it, stops in time, says what a person has to mend."""

from __future__ import annotations

import time

import pytest

from tests.systemd.machine import Machine, Record, parsed
from tests.systemd.site import CONFIG, DROP_INS, PARK, PORT, SECRET_FILE, Site

LET_ME_BLOCK = "/usr/local/lib/blockable"
SITECUSTOMIZE = "import signal, time\nsignal.signal(signal.SIGUSR1, lambda *_: time.sleep(3600))\n"


def outage(site: Site, kind: str) -> None:
    body = f'{{"kind": "{kind}"}}'
    code = f"import urllib.request as r; r.urlopen('http://127.0.0.1:{PORT}/_world/outage', {body.encode()!r})"
    site.machine.run("python3", "-c", code)


def ended(record: Record) -> bool:
    return "Main process exited" in str(record["MESSAGE"])


def started(record: Record) -> bool:
    return parsed(record).get("event") == "daemon.started"


def test_it_is_ready_and_takes_orders_on_while_the_platform_cannot_be_reached(site: Site) -> None:
    site.start()
    site.submit("settle-1s-a")
    assert site.machine.show("StatusText").startswith("listening on 127.0.0.1:8710")
    assert site.orders()["settle-1s-a"]["state"] == "pending"
    site.simulate()
    assert site.results("settle-1s-a") == {"settle-1s-a": "paid"}


def test_store_and_secrets_are_its_own_alone(site: Site) -> None:
    site.start()
    modes = site.machine.out("sh", "-c", "stat -c '%a %U %n' /var/lib/poller /var/lib/poller/*.db /run/poller")
    assert modes.splitlines() == [
        "700 poller /var/lib/poller",
        "600 poller /var/lib/poller/poller.db",
        "750 poller /run/poller",
    ]
    assert site.machine.out("stat", "-c", "%a %U", "/etc/poller/secrets") == "700 root"


def test_after_kill_9_it_is_started_again_and_every_order_comes_out(site: Site) -> None:
    site.start()
    site.submit("settle-1s-a", "fail-1s-b", "pending-c")
    since = site.machine.now()
    site.machine.run("systemctl", "kill", "-s", "KILL", "poller")
    site.machine.until(since, started)
    site.simulate()
    assert site.results("settle-1s-a", "fail-1s-b") == {"settle-1s-a": "paid", "fail-1s-b": "failed"}
    assert site.orders()["pending-c"]["state"] == "pending"
    assert site.machine.show("NRestarts") == "1"


def test_however_often_it_is_killed_it_is_started_again(site: Site) -> None:
    site.drop_in("fast", "[Service]\nRestartSec=10ms\n")
    site.start()
    for _ in range(7):  # more than the five starts in ten seconds that systemd allows unless told otherwise
        since = site.machine.now()
        site.machine.run("systemctl", "kill", "-s", "KILL", "poller")
        site.machine.until(since, started)
    assert site.machine.show("NRestarts") == "7"


@pytest.mark.parametrize("how", ["STOP", "USR1"], ids=["a stopped process", "a blocked event loop"])
def test_the_watchdog_ends_a_hang_and_it_is_started_again(site: Site, how: str) -> None:
    site.machine.write(f"{LET_ME_BLOCK}/sitecustomize.py", SITECUSTOMIZE)
    site.drop_in("hang", f"[Service]\nWatchdogSec=7\nRestartSec=10ms\nEnvironment=PYTHONPATH={LET_ME_BLOCK}\n")
    site.simulate()
    site.start()
    site.submit("pending-a")
    since = site.machine.now()
    site.machine.run("systemctl", "kill", "-s", how, "poller")
    site.machine.until(since, lambda record: "Watchdog timeout" in str(record["MESSAGE"]))
    site.machine.until(since, started)
    said = "\n".join(str(record["MESSAGE"]) for record in site.machine.journal(since))
    assert "Failed with result 'watchdog'" in said
    assert "Fatal Python error: Aborted" in said, "where it hung is in the journal"
    assert ("sitecustomize.py" in said) is (how == "USR1")
    assert site.results("settle-1s-b") == {"settle-1s-b": "paid"}
    assert site.orders()["pending-a"]["state"] == "pending"


def test_it_stops_within_its_time_and_nothing_is_lost(site: Site) -> None:
    site.simulate()
    outage(site, "hang")
    site.start()
    numbers = [f"settle-1s-{number}" for number in range(50)]
    site.submit(*numbers)
    began, since = time.monotonic(), site.machine.now()
    site.machine.run("systemctl", "stop", "poller")
    assert time.monotonic() - began < 10, "a drain takes 5 s at most"
    assert site.machine.show("Result") == "success"
    assert site.machine.show("ExecMainStatus") == "0"
    events = [parsed(record).get("event") for record in site.machine.journal(since)]
    assert events.index("daemon.stopping") < events.index("daemon.stopped")
    site.machine.run("systemctl", "stop", "simulator")
    site.simulate()
    site.start()
    assert site.results(*numbers) == dict.fromkeys(numbers, "paid")


def test_a_stop_that_hangs_is_ended_and_nothing_is_lost(site: Site) -> None:
    site.drop_in("impatient", "[Service]\nTimeoutStopSec=500ms\n")
    site.start()
    site.submit("settle-1s-a")
    site.machine.run("systemctl", "kill", "-s", "STOP", "poller")
    site.drop_in("no-help", "[Service]\nSendSIGHUP=no\nKillSignal=SIGURG\n")  # which it does not hear
    site.machine.run("systemctl", "stop", "poller")
    assert site.machine.show("Result") == "timeout"
    site.machine.run("rm", f"{DROP_INS}/no-help.conf")
    site.machine.run("systemctl", "daemon-reload")
    site.simulate()
    site.start()
    assert site.results("settle-1s-a") == {"settle-1s-a": "paid"}


def test_without_the_secrets_folder_it_does_not_start_and_says_so(site: Site) -> None:
    site.machine.run("rm", "-r", "/etc/poller/secrets")
    since = site.machine.now()
    assert site.machine.run("systemctl", "start", "poller", check=False).returncode == 1
    assert site.machine.show("ExecMainStatus") == "243"
    assert "status=243/CREDENTIALS" in site.machine.run("systemctl", "status", "poller", check=False).stdout
    said = "\n".join(str(record["MESSAGE"]) for record in site.machine.journal(since))
    assert "Failed to set up credentials" in said
    site.configure()
    site.machine.until(since, started)  # by itself


WRONG = {
    "a secret that is missing": (f"rm {SECRET_FILE}", "park-1.secret: No such file or directory"),
    "a wrong configuration": (f"sed -i 's/^park_uuid/park_uid/' {CONFIG}", "did you mean park_uuid"),
    "no configuration": (f"rm {CONFIG}", f"{CONFIG}: cannot be read: No such file or directory"),
    "a newer store": (
        "python3 -c 'import sqlite3; sqlite3.connect(\"/var/lib/poller/poller.db\")"
        ".execute(\"PRAGMA user_version = 9999\")'",
        "install the newer program again",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("command", "says"), WRONG.values(), ids=list(WRONG))
def test_what_a_person_has_to_mend_is_said_and_not_tried_again(site: Site, command: str, says: str) -> None:
    site.start()
    site.machine.run("systemctl", "stop", "poller")
    site.machine.run("sh", "-c", command)
    since = site.machine.now()
    assert site.machine.run("systemctl", "start", "poller", check=False).returncode == 1
    assert site.machine.show("ActiveState") == "failed", "not `activating`: it is not tried again"
    assert site.machine.show("ExecMainStatus") == "78"
    status = site.machine.run("systemctl", "status", "poller", check=False).stdout
    assert "status=78/CONFIG" in status
    assert says in status
    assert sum(ended(record) for record in site.machine.journal(since)) == 1


def test_a_reload_takes_a_change_over_and_refuses_a_wrong_one(site: Site) -> None:
    site.start()
    since = site.machine.now()
    site.configure(level="debug")
    site.machine.run("systemctl", "reload", "poller")
    assert site.machine.logged(since, "config.reloaded")["needs_restart"] == []
    site.machine.write(CONFIG, "[[parks]\n")
    site.machine.run("systemctl", "reload", "poller")
    assert "is not TOML" in site.machine.logged(since, "config.rejected")["faults"][0]
    assert site.machine.show("ActiveState") == "active"


def test_a_second_lot_is_one_more_file_and_one_more_section(site: Site) -> None:
    site.machine.write("/etc/poller/secrets/park-2.secret", "another secret\n", 0o600)
    site.configure('[[parks]]\npark_uuid = "second"\napp_secret_file = "secrets/park-2.secret"\n')
    site.start()
    site.machine.run("poller", "submit", "a", "--park", "second")
    site.machine.run("poller", "submit", "a", "--park", PARK)
    assert site.machine.show("ActiveState") == "active"


def test_a_socket_file_is_for_the_group_of_the_service_alone(site: Site, shared: Machine) -> None:
    site.configure('[intake]\nlisten = "unix:/run/poller/poller.sock"\n')
    site.start()
    assert shared.out("stat", "-c", "%a %U %G", "/run/poller/poller.sock") == "660 poller poller"
    shared.run("runuser", "-u", "daemon", "-g", "poller", "--", "poller", "submit", "a")
    assert shared.run("runuser", "-u", "daemon", "--", "poller", "list", check=False).returncode == 1
