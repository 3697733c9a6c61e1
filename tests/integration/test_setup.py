"""`.ci/setup` where Python has no venv: one sentence on what to install."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

SETUP = Path(__file__).parents[2] / ".ci" / "setup"
SENTENCE = "setup: Python's venv is missing: as root, apt-get install python3-venv; then run this again\n"
WITHOUT_VENV = 'case "$2" in *ensurepip*) exit 1;; esac\n'


def script(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}")
    (folder / name).chmod(0o755)


def set_up(folder: Path, user: int, *, installer: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run it as that user, with a Python without venv and no other commands than these."""
    for name in ("sh", "dirname", "cat", "rm", "mktemp"):
        (folder / name).symlink_to(str(shutil.which(name)))
    script(folder, "python3", WITHOUT_VENV)
    script(folder, "id", f"echo {user}\n")
    if installer is not None:
        script(folder, "apt-get", installer)
    return subprocess.run(
        ["sh", SETUP],
        env={"PATH": str(folder), "TMPDIR": os.environ.get("TMPDIR", "/tmp")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_user_without_sudo_is_told_what_to_install(tmp_path: Path) -> None:
    done = set_up(tmp_path, 1000, installer="exit 0\n")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", SENTENCE)


def test_a_machine_without_apt_is_told_what_to_install(tmp_path: Path) -> None:
    done = set_up(tmp_path, 0)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", SENTENCE)


def test_what_the_installer_said_is_shown_where_it_failed(tmp_path: Path) -> None:
    done = set_up(tmp_path, 0, installer="echo no such mirror; exit 100\n")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"no such mirror\n{SENTENCE}")
