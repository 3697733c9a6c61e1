"""The platform's `sign` parameter (its openapi/README)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def sign(params: Iterable[tuple[str, str]], app_secret: str) -> str:
    """MD5 over the non-empty parameters but `sign`, sorted by name then value, and the secret; upper-case hex.

    Values are taken raw, as UTF-8 and not percent-encoded.
    """
    pairs = sorted((name, value) for name, value in params if name != "sign" and value)
    text = "&".join([f"{name}={value}" for name, value in pairs] + [f"app_secret={app_secret}"])
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest().upper()
