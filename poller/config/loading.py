"""From the file to settings. Each key of the contract (README, "Configuration") is one line here."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from poller.config import kinds
from poller.config.faults import ConfigError, Faults
from poller.config.listen import Listen
from poller.config.secret_files import SecretFiles
from poller.config.section import Document, Section
from poller.config.settings import (
    Config,
    IntakeSettings,
    LogSettings,
    PlatformSettings,
    StoreSettings,
    WebhookSettings,
)
from poller.core.cadence import Cadence
from poller.ports.fleet import LEASE_S
from poller.pyun import Lot
from poller.stores import is_postgres

PLATFORM_URL = "https://api.4pyun.com/gate/1.0/parking/internal/payment"
SQLITE = "sqlite:///"


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """What a command needs that talks to the running daemon; `token_file` as the configuration names it."""

    intake: IntakeSettings
    park_uuids: tuple[str, ...]
    token_file: str | None = None


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """Read and check the file at `path` and the secrets it names.

    `environ` is looked at for `CREDENTIALS_DIRECTORY` and `STATE_DIRECTORY`. Raises ConfigError with every
    fault there is.
    """
    faults = Faults(path)
    document = Document(_tables(path), faults)
    secrets = SecretFiles(path, environ)
    config = Config(
        path=path,
        platform=_platform(document.section("platform")),
        lots=_lots(document, secrets),
        cadence=_cadence(document.section("polling")),
        intake=_intake(document.section("intake"), secrets),
        webhook=_webhook(document.section("webhook"), secrets) if "webhook" in document else None,
        store=_store(document.section("store"), path, environ, secrets.password),
        log=_log(document.section("log")),
    )
    document.close()
    faults.raise_if_any()
    return config


def load_for_client(path: Path, environ: Mapping[str, str]) -> ClientSettings:
    """Read `[intake]` and the names of the lots alone: a user of the daemon need not see its other secrets.

    Raises ConfigError.
    """
    faults = Faults(path)
    tables = _tables(path)
    section = Document(tables, faults).section("intake")
    intake = _intake(section, SecretFiles(path, environ))
    faults.raise_if_any()
    token_file = section.optional("token_file", kinds.text("a file", str), "") or None
    parks = tables.get("parks")
    named = [park.get("park_uuid") for park in parks if isinstance(park, dict)] if isinstance(parks, list) else []
    return ClientSettings(intake, tuple(name for name in named if isinstance(name, str)), token_file)


def load_store(path: Path, environ: Mapping[str, str]) -> StoreSettings:
    """Read `[store]` alone: who copies the store need not see any secret. Raises ConfigError."""
    faults = Faults(path)
    settings = _store(Document(_tables(path), faults).section("store"), path, environ, kinds.UNREAD)
    faults.raise_if_any()
    return settings


def _tables(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: is not UTF-8 text"]) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError([f"{path}: is not TOML: {error}"]) from None


def _platform(section: Section) -> PlatformSettings:
    settings = PlatformSettings(
        url=section.optional("url", kinds.PLATFORM_URL, PLATFORM_URL),
        rate_per_second=section.optional("rate_per_second", kinds.whole(at_least=1), 20),
        max_concurrency=section.optional("max_concurrency", kinds.whole(at_least=1), 32),
        timeout=section.optional("timeout_seconds", kinds.SECONDS, 10.0),
    )
    section.close()
    return settings


def _lots(document: Document, secrets: SecretFiles) -> dict[str, Lot]:
    lots: dict[str, Lot] = {}
    for section in document.sections("parks"):
        park_uuid = section.required("park_uuid", kinds.IDENTIFIER, "")
        if park_uuid in lots and section.sound("park_uuid"):
            section.fault("park_uuid", f'expected each lot once, found "{park_uuid}" again')
        lots[park_uuid] = Lot(
            app_secret=section.required("app_secret_file", secrets.app_secret, ""),
            app_id=section.optional("app_id", kinds.IDENTIFIER, "") or None,
            api_type=section.optional("api_type", kinds.IDENTIFIER, "") or None,
        )
        section.close()
    return lots


def _cadence(section: Section) -> Cadence:
    cadence = Cadence(
        initial_delay=section.optional("initial_delay_seconds", kinds.SECONDS_OR_0, 0.5),
        min_interval=section.optional("min_interval_seconds", kinds.SECONDS, 1.0),
        age_fraction=section.optional("age_fraction", kinds.FRACTION, 0.1),
        max_interval=section.optional("max_interval_seconds", kinds.SECONDS, 900.0),
        undecided_after=section.optional("undecided_after_seconds", kinds.SECONDS_OR_0, 90.0),
        give_up_after=section.optional("give_up_after_seconds", kinds.SECONDS, 259_200.0),
        queries_per_order=section.optional("queries_per_order", kinds.ONE_OR_MORE, 0.0) or None,
    )
    intervals = ("min_interval_seconds", "max_interval_seconds")
    if section.sound(*intervals) and cadence.min_interval > cadence.max_interval:
        most = f"at most max_interval_seconds ({cadence.max_interval:g})"
        section.fault("min_interval_seconds", f"expected {most}, found {cadence.min_interval:g}")
    deadlines = ("undecided_after_seconds", "give_up_after_seconds")
    asked_for = "undecided_after_seconds" in section  # left out, giving up early just means that it never comes
    if asked_for and section.sound(*deadlines) and cadence.undecided_after > cadence.give_up_after:
        most = f"at most give_up_after_seconds ({cadence.give_up_after:g})"
        section.fault("undecided_after_seconds", f"expected {most}, found {cadence.undecided_after:g}")
    section.close()
    return cadence


def _intake(section: Section, secrets: SecretFiles) -> IntakeSettings:
    listen = section.optional("listen", kinds.LISTEN, Listen("127.0.0.1", 8710))
    token = section.optional("token_file", secrets.token, "") or None
    if "token_file" not in section and not listen.is_loopback and listen.unix_path is None:
        section.fault("token_file", f"expected a token, since {listen} is not loopback, found nothing")
    section.close()
    return IntakeSettings(listen, token)


def _webhook(section: Section, secrets: SecretFiles) -> WebhookSettings:
    settings = WebhookSettings(
        url=section.required("url", kinds.URL, ""),
        secret=section.required("secret_file", secrets.webhook_secret, ""),
        timeout=section.optional("timeout_seconds", kinds.SECONDS, 10.0),
        give_up_after=section.optional("give_up_after_seconds", kinds.SECONDS, 604_800.0),
    )
    section.close()
    return settings


def _store(section: Section, path: Path, environ: Mapping[str, str], password: kinds.Kind[str]) -> StoreSettings:
    folder = path.absolute().parent
    state_folder = environ.get("STATE_DIRECTORY", "").split(":")[0] or folder

    def parse(url: str) -> str:
        if is_postgres(url):
            return kinds.postgres_url(url)
        name = url.removeprefix(SQLITE)
        if name == url or not name or name == ":memory:" or "\0" in name:
            raise ValueError
        return f"{SQLITE}{folder / name}"

    settings = StoreSettings(
        url=section.optional(
            "url",
            kinds.text(f"{SQLITE} and a path, or postgresql://…", parse),
            f"{SQLITE}{state_folder}/poller.db",
        ),
        history_days=section.optional("history_days", kinds.DAYS, 90.0),
        lease=section.optional("lease_seconds", kinds.LEASE, LEASE_S),
        password=section.optional("password_file", password, "") or None,
    )
    for key in ("password_file", "lease_seconds"):
        if key in section and section.sound("url", key) and not is_postgres(settings.url):
            section.fault(key, "expected with a postgresql:// url alone")
    section.close()
    return settings


def _log(section: Section) -> LogSettings:
    settings = LogSettings(
        level=section.optional("level", kinds.one_of("debug", "info", "warning", "error"), "info"),
        format=section.optional("format", kinds.one_of("auto", "json", "console"), "auto"),
    )
    section.close()
    return settings
