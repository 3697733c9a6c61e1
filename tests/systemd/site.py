"""The service on a machine as its operator sets it up, with a stand-in for the platform."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.systemd.machine import Machine

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
PARK = "49f0cc52-e8c7-41e3-b54d-af666b8cc11a"
SECRET = "0123456789abcdef0123456789abcdef"
CONFIG = "/etc/poller/poller.toml"
SECRET_FILE = "/etc/poller/secrets/park-1.secret"
DROP_INS = "/run/systemd/system/poller.service.d"
PORT = 8711
URL = f"http://127.0.0.1:{PORT}/gate/1.0/parking/internal/payment"
POLLING = "[polling]\ninitial_delay_seconds = 0.1\nmin_interval_seconds = 0.3\n"


@dataclass(frozen=True, slots=True)
class Site:
    machine: Machine

    def configure(self, more: str = "", *, level: str = "info") -> None:
        """One edited file and one secret, as after an installation."""
        text = f'[platform]\nurl = "{URL}"\ntimeout_seconds = 3\n[[parks]]\npark_uuid = "{PARK}"\n'
        text += 'app_secret_file = "secrets/park-1.secret"\n' + POLLING
        text += f'[store]\nurl = "sqlite:////var/lib/poller/poller.db"\n[log]\nlevel = "{level}"\n{more}'
        self.machine.write(CONFIG, text)
        self.machine.write(SECRET_FILE, SECRET + "\n", 0o600)

    def start(self) -> None:
        """Returns once it is READY."""
        self.machine.run("systemctl", "start", "poller")

    def simulate(self) -> None:
        """The platform, from the same package, in a unit of its own."""
        words = ["poller", "simulate", "--listen", f"127.0.0.1:{PORT}", "--park", PARK]
        since = self.machine.now()
        unit = ["systemd-run", "--quiet", "--collect", "--unit=simulator", "--setenv=PYTHONUNBUFFERED=1"]
        self.machine.run(*unit, *words, "--secret-file", SECRET_FILE)
        self.machine.until(since, lambda record: record["MESSAGE"] == "[platform]", unit="simulator")

    def drop_in(self, name: str, text: str) -> None:
        """More settings of the unit, gone after the test."""
        self.machine.write(f"{DROP_INS}/{name}.conf", text)
        self.machine.run("systemctl", "daemon-reload")

    def submit(self, *numbers: str) -> None:
        """Hand orders in; each is on disk then."""
        self.machine.run("poller", "submit", *numbers)

    def orders(self) -> dict[str, Any]:
        """All orders that the daemon knows, by number."""
        lines = self.machine.out("poller", "list", "--json", "--limit", "100000").splitlines()
        return {order["pay_partner"]: order for order in map(json.loads, lines)}

    def results(self, *numbers: str) -> dict[str, str]:
        """Wait until these orders have ended, and tell how."""
        lines = self.machine.run("poller", "submit", *numbers, "--wait", "--json", check=False).stdout
        return {order["pay_partner"]: order["state"] for order in map(json.loads, lines.splitlines())}

    def clear(self) -> None:
        """As it was after the installation."""
        self.machine.run("sh", "-c", "systemctl stop poller simulator 2>/dev/null; systemctl reset-failed")
        self.machine.run(
            "sh", "-c", f"rm -rf {DROP_INS} /var/lib/poller /var/lib/poller-packages /etc/poller/secrets"
        )
        self.machine.run("sh", "-c", "install -d -m 700 /etc/poller/secrets; systemctl daemon-reload")


def install(machine: Machine, package: Path) -> None:
    """As the operator does, without a network."""
    machine.run("apt-get", "install", "-y", "-q", bring(machine, package))


def bring(machine: Machine, package: Path) -> str:
    """The package on the machine; its path there."""
    shutil.copy(package, machine.root / "root" / package.name)
    return f"/root/{package.name}"
