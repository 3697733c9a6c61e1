"""Why the daemon could not be asked or would not do it, in words for who types commands.

DaemonError
    UnreachableError: it is away, or on its way back; what was asked may be asked again
        NotRunningError: nothing listens where it would
    RefusedError: it answered, and did not do it
"""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote

from poller.cli.printing import shown
from poller.cli.service import start_command
from poller.config import ClientSettings, Listen

NOT_KNOWN = "there is nothing at "  # so begins the daemon's word on a path that it does not have


class DaemonError(Exception):
    """The daemon could not be asked, or refused. The message is one line that says what to do."""

    @property
    def may_pass(self) -> bool:
        """Whether it is worth to ask again a moment later."""
        return False


class UnreachableError(DaemonError):
    """The daemon is away, or on its way back."""

    @property
    def may_pass(self) -> bool:
        return True


class NotRunningError(UnreachableError):
    """Nothing listens where the daemon would."""


class RefusedError(DaemonError):
    """The daemon answered with this HTTP status and did not do what was asked."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    @property
    def may_pass(self) -> bool:
        return self.status == 503


def unreached(listen: Listen, config: Path, error: Exception) -> UnreachableError:
    """What a failed connection means."""
    cause = getattr(error, "os_error", error)
    if isinstance(cause, PermissionError):
        return UnreachableError(
            f"the daemon's socket file {listen.unix_path} may not be used by this user: "
            "run this as root (sudo), or join the group of that file"
        )
    if isinstance(cause, ConnectionRefusedError | FileNotFoundError):
        return NotRunningError(f"no daemon listens on {listen}: start it with `{start_command(config)}`")
    return UnreachableError(f"the daemon at {listen} cannot be asked: {str(error) or type(error).__name__}")


def refused(settings: ClientSettings, config: Path, status: int, body: bytes) -> DaemonError:
    """What an answer means that is no success, or that is not JSON at all."""
    listen = settings.intake.listen
    try:
        document = json.loads(body)
    except ValueError:
        return DaemonError(f"what listens on {listen} is not poller's daemon (HTTP {status})")
    detail = document.get("detail") if isinstance(document, dict) else None
    said = shown(" ".join(str(detail or f"the daemon refused: HTTP {status}").split()))
    match status:
        case 401 if settings.token_file is None:
            said = f"the daemon at {listen} wants a token: name its file, as token_file under [intake] in {config}"
        case 401:
            said = (
                f"the daemon at {listen} does not know the token in {settings.token_file} (token_file under "
                f"[intake] in {config}): put the daemon's own there, or restart the daemon if it was changed"
            )
        case 403:
            said = f"{said}: under [intake] listen in {config}, give the address that the daemon was started with"
        case 404 if said.startswith(NOT_KNOWN):
            said = f"the daemon at {listen} is of an older version that does not have this: restart it"
    return RefusedError(status, said)


def no_order(pay_partner: str, park_uuid: str, park_uuids: tuple[str, ...]) -> str:
    """What to do about an order that the daemon does not know."""
    lacking = f"no order {shown(pay_partner)} of lot {shown(park_uuid)}"
    if park_uuid not in park_uuids:
        return f"{lacking}, which is not configured ({', '.join(park_uuids) or 'none is'})"
    lot = "" if len(park_uuids) == 1 else f" --park {quote(park_uuid)}"
    return f"{lacking}: hand it in with `poller submit {shown(quote(pay_partner))}{lot}`"


def no_notice(event_id: str) -> str:
    """What to do about a notice that the daemon does not know."""
    return f"no notice {shown(event_id)}: `poller deliveries` lists them"


def not_taken_on(status: int, detail: str, pay_partner: str, config: Path) -> str:
    """What to do about an order that was handed in and refused."""
    if status == 409:
        return (
            f"known with other metadata: see `poller show {shown(quote(pay_partner))}`; "
            "give the same --metadata, or a new number for a new order"
        )
    if "park_uuid is missing" in detail:
        return f"say which lot with --park, of those under [[parks]] in {config}"
    return shown(detail)
