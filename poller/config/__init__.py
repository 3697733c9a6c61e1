"""The configuration file and the secrets it names: read, checked as a whole, and turned into settings."""

from poller.config.faults import ConfigError
from poller.config.listen import Listen
from poller.config.loading import ClientSettings, load, load_for_client, load_store
from poller.config.settings import (
    Config,
    IntakeSettings,
    LogSettings,
    PlatformSettings,
    StoreSettings,
    WebhookSettings,
)

__all__ = [
    "ClientSettings",
    "Config",
    "ConfigError",
    "IntakeSettings",
    "Listen",
    "LogSettings",
    "PlatformSettings",
    "StoreSettings",
    "WebhookSettings",
    "load",
    "load_for_client",
    "load_store",
]
