"""The daemon as a service of systemd: what its unit (deploy/poller.service) means for who types a command."""

from __future__ import annotations

import errno
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

DEFAULT_CONFIG = Path("/etc/poller/poller.toml")
STATE_FOLDER = "/var/lib/poller"
CREDENTIALS_FOLDER = "/run/credentials/poller.service"
UNIT = "poller.service"
UNIT_FOLDERS = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")

MISSING, FORBIDDEN = os.strerror(errno.ENOENT), os.strerror(errno.EACCES)
_SECRET_UNREAD = re.compile(rf"(?:secret|token)_file: .*\b({MISSING}|{FORBIDDEN})\b")


def is_under_systemd(environ: Mapping[str, str]) -> bool:
    """Whether systemd has told this process where state or credentials are."""
    return bool(environ.get("STATE_DIRECTORY") or environ.get("CREDENTIALS_DIRECTORY"))


def start_command(config: Path) -> str:
    """How to start the daemon that this configuration is for."""
    if config == DEFAULT_CONFIG and any(Path(folder, UNIT).exists() for folder in UNIT_FOLDERS):
        return "systemctl start poller"
    return f"poller run{config_words(config)}"


def check_as_the_service(config: Path) -> str:
    """How to run the check with what systemd hands to the running service."""
    folders = f"CREDENTIALS_DIRECTORY={CREDENTIALS_FOLDER} STATE_DIRECTORY={STATE_FOLDER}"
    return f"sudo env {folders} poller check{config_words(config)}"


def config_words(config: Path) -> str:
    """` --config FILE` for a command line; empty where it is the default."""
    return "" if config == DEFAULT_CONFIG else f" --config {shlex.quote(str(config))}"


def unread_secrets(faults: Iterable[str]) -> set[str]:
    """Why secret files of a configuration could not be read: the system's words for missing and for forbidden."""
    return {found[1] for fault in faults if (found := _SECRET_UNREAD.search(fault))}


def remedies(faults: Iterable[str]) -> list[str]:
    """What to do where the faults of a configuration are those of who reads it."""
    forbidden = FORBIDDEN in unread_secrets(faults)
    return ["run this as root (sudo): this user may not read the secrets"] if forbidden else []
