"""The settings as the parts of the daemon take them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from poller.config.listen import Listen
from poller.core.cadence import Cadence
from poller.ports.fleet import LEASE_S
from poller.pyun import Lot


@dataclass(frozen=True, slots=True)
class PlatformSettings:
    """`rate_per_second` queries at most in any one second; `timeout` seconds for one whole query."""

    url: str
    rate_per_second: int
    max_concurrency: int
    timeout: float


@dataclass(frozen=True, slots=True)
class IntakeSettings:
    listen: Listen
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """`secret` as Standard Webhooks has it (whsec_…); `timeout` and `give_up_after` in seconds."""

    url: str
    secret: str = field(repr=False)
    timeout: float
    give_up_after: float


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """`url` is `sqlite:///` and an absolute path, or `postgresql://` without a password; `lease` in seconds."""

    url: str
    history_days: float
    lease: float = LEASE_S
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class LogSettings:
    """`level` is debug, info, warning or error; `format` is auto, json or console."""

    level: str
    format: str


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration, sound. `lots` is by park_uuid; without `webhook`, results go to the log alone."""

    path: Path
    platform: PlatformSettings
    lots: dict[str, Lot] = field(repr=False)
    cadence: Cadence
    intake: IntakeSettings
    webhook: WebhookSettings | None
    store: StoreSettings
    log: LogSettings
