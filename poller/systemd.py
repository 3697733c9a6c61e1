"""What systemd is told, by its datagram protocol (sd_notify(3)); nothing where it did not start us."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class Notifier:
    """`environ` names the socket (NOTIFY_SOCKET) and the watchdog's time (WATCHDOG_USEC)."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET")
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        mine = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_s = int(environ.get("WATCHDOG_USEC", "0")) / 1e6 if mine else 0.0

    def ready(self, status: str) -> None:
        """Orders can be taken on."""
        self._send(f"READY=1\nSTATUS={status}")

    def starting(self, seconds: float) -> None:
        """The start goes on, and may take so much longer."""
        self._send(f"EXTEND_TIMEOUT_USEC={seconds * 1e6:.0f}")

    def alive(self) -> None:
        """The loops make progress."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1\nSTATUS=draining")

    def _send(self, text: str) -> None:
        if self._address is None:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            try:
                sock.sendto(text.encode(), self._address)
            except OSError:
                return  # nobody listens any more, or is busy: the next one may arrive
