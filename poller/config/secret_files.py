"""Secrets, which come from files alone."""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from poller.config.kinds import Kind, SecretItselfError, text

LARGEST = 65_536  # bytes; no secret is longer, and a wrong file name must not fill the memory
SHORTEST_SECRET = 16  # characters; what is shorter is taken for a file's name
NEVER_HERE = "a secret never stands in the configuration file"


class SecretFiles:
    """Reads the files that a configuration names.

    A relative path is looked up in `$CREDENTIALS_DIRECTORY` when that is set, else beside the file. There
    `secrets/lot` may also be `secrets_lot`: so systemd names the files of a folder (LoadCredential).
    """

    def __init__(self, config_path: Path, environ: Mapping[str, str]) -> None:
        credentials = environ.get("CREDENTIALS_DIRECTORY")
        self._folder = Path(credentials) if credentials else config_path.absolute().parent
        self._flat = bool(credentials)
        self.app_secret: Kind[str] = text("a file with the lot's app_secret in it", self._read)
        self.password: Kind[str] = text("a file with a password in it", self._read)
        self.token: Kind[str] = text("a file with a token in it", self._token)
        self.webhook_secret: Kind[str] = text("a file with a whsec_… secret in it", self._webhook_secret)

    def _read(self, name: str) -> str:
        if not name:
            raise ValueError
        if name.startswith("whsec_") or "\0" in name:
            raise SecretItselfError(NEVER_HERE)
        path = self._folder / name
        try:
            content = self._content(name)
        except OSError as error:
            if self._may_be_secret(name):
                raise SecretItselfError(f"no such file can be read ({error.strerror}); {NEVER_HERE}") from None
            raise ValueError(f"{path}: {error.strerror}") from None
        try:
            secret = content.decode()
        except UnicodeDecodeError:
            raise ValueError(f"{path} is not UTF-8 text") from None
        secret = secret.removesuffix("\n").removesuffix("\r") if secret.endswith("\n") else secret
        if not secret.strip():
            raise ValueError(f"{path} is empty")
        return secret

    def _content(self, name: str) -> bytes:
        try:
            return _content(self._folder / name)
        except (FileNotFoundError, NotADirectoryError):
            if not self._flat or name.startswith("/") or "/" not in name:
                raise
            return _content(self._folder / name.replace("/", "_"))

    def _may_be_secret(self, name: str) -> bool:
        """Whether a name that is no file's looks more like a secret than like a file's."""
        if len(name) < SHORTEST_SECRET or "." in name:
            return False
        folder = (self._folder / name).parent
        return "/" not in name or folder == folder.parent or not folder.is_dir()

    def _token(self, name: str) -> str:
        token = self._read(name)
        if not re.fullmatch(r"[!-~]+", token):
            raise ValueError(f"{self._folder / name} must hold one line of ASCII without spaces")
        return token

    def _webhook_secret(self, name: str) -> str:
        secret = self._read(name)
        key = secret.removeprefix("whsec_")
        try:
            usable = key != secret and base64.b64decode(key + "=" * (-len(key) % 4), validate=True)
        except (binascii.Error, ValueError):
            usable = b""
        if not usable:
            raise ValueError(f"{self._folder / name} must hold whsec_ and then base64")
        return secret


def _content(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not hang the start
    try:
        _refuse_unfit(path, os.fstat(descriptor))
        return os.read(descriptor, LARGEST)
    finally:
        os.close(descriptor)


def _refuse_unfit(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path} is not a regular file")
    if status.st_mode & stat.S_IROTH:
        raise ValueError(f"{path} can be read by everyone; mend it with: chmod o-rwx {path}")
    if status.st_size > LARGEST:
        raise ValueError(f"{path} is too big for a secret")
