"""Certificates for the tests, made by the openssl command."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Authority:
    """A certificate authority of our own, in a folder."""

    folder: Path

    @property
    def certificate(self) -> Path:
        return self.folder / "ca.pem"

    def found(self) -> None:
        self.run(
            "req", "-x509", *EC, "-subj", "/CN=authority", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem"
        )

    def issue(self, name: str, days: int) -> ssl.SSLContext:
        """A server's context with a certificate for `name` that is valid for `days` from now."""
        self.run(
            *("req", *EC, "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"),
            *("-keyout", "server.key", "-out", "server.csr"),
        )
        self.run(
            *("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", "2"),
            *("-days", str(days), "-copy_extensions", "copy", "-out", "server.pem"),
        )
        return server_context(self.folder / "server.pem", self.folder / "server.key")

    def trusted(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.certificate)

    def run(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
