"""The configuration: defaults, faults all in one go, and secrets from files."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from poller.config import Config, ConfigError, Listen, load, load_for_client, load_store
from poller.core.cadence import Cadence
from poller.pyun import Lot

PARK = "49f0cc52-e8c7-41e3-b54d-af666b8cc11a"
PARKS = f'[[parks]]\npark_uuid = "{PARK}"\napp_secret_file = "park-1.secret"\n'
WEBHOOK = '[webhook]\nurl = "http://127.0.0.1:9000/payments"\nsecret_file = "webhook.secret"\n'
SECRET = "s3cr3t-of-the-lot"
WHSEC = "whsec_" + base64.b64encode(b"a key of the lot's own making").decode()
TOKEN = "t0ken-of-the-gate"

Write = Callable[[str], Path]


def put(path: Path, content: str | bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


@pytest.fixture
def write(tmp_path: Path) -> Write:
    put(tmp_path / "park-1.secret", SECRET)
    put(tmp_path / "webhook.secret", WHSEC)
    put(tmp_path / "intake.token", TOKEN)
    return lambda text: put(tmp_path / "poller.toml", text)


def faults(path: Path, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, environ or {})
    found = caught.value.faults
    assert all("\n" not in line and line.startswith(str(path)) for line in found)
    return "\n".join(line.removeprefix(f"{path}: ") for line in found)


def loaded(path: Path, environ: dict[str, str] | None = None) -> Config:
    return load(path, environ or {})


def test_one_lot_is_all_that_must_be_configured(write: Write, tmp_path: Path) -> None:
    config = loaded(write(PARKS))
    assert config.platform.url == "https://api.4pyun.com/gate/1.0/parking/internal/payment"
    assert (config.platform.rate_per_second, config.platform.max_concurrency, config.platform.timeout) == (
        20,
        32,
        10,
    )
    assert config.lots == {PARK: Lot(SECRET)}
    assert config.cadence == Cadence(0.5, 1, 0.1, 900, 90, 259_200)
    assert (config.intake.listen, config.intake.token) == (Listen("127.0.0.1", 8710), None)
    assert config.cadence.queries_per_order is None
    assert config.webhook is None
    assert (config.store.url, config.store.history_days) == (f"sqlite:///{tmp_path}/poller.db", 90)
    assert (config.log.level, config.log.format) == ("info", "auto")


def test_every_key_reaches_its_setting(write: Write, tmp_path: Path) -> None:
    config = loaded(
        write(
            '[platform]\nurl = "http://127.0.0.1:1/p"\nrate_per_second = 5\n'
            + "max_concurrency = 6\ntimeout_seconds = 7.5\n"
            + PARKS
            + 'app_id = "op1"\napi_type = "api-debug"\n'
            + "[polling]\ninitial_delay_seconds = 0\nmin_interval_seconds = 2\nage_fraction = 0.25\n"
            + "max_interval_seconds = 60\nundecided_after_seconds = 0\ngive_up_after_seconds = 3600\n"
            + "queries_per_order = 4.5\n"
            + '[intake]\nlisten = "0.0.0.0:80"\ntoken_file = "intake.token"\n'
            + WEBHOOK
            + "timeout_seconds = 3\ngive_up_after_seconds = 60\n"
            + '[store]\nurl = "sqlite:///sub/other.db"\nhistory_days = 7\n'
            + '[log]\nlevel = "debug"\nformat = "json"\n'
        )
    )
    assert (config.platform.url, config.platform.rate_per_second) == ("http://127.0.0.1:1/p", 5)
    assert (config.platform.max_concurrency, config.platform.timeout) == (6, 7.5)
    assert config.lots == {PARK: Lot(SECRET, "op1", "api-debug")}
    assert config.cadence == Cadence(0, 2, 0.25, 60, 0, 3600, 4.5)
    assert (config.intake.listen, config.intake.token) == (Listen("0.0.0.0", 80), TOKEN)
    assert config.webhook is not None
    assert (config.webhook.url, config.webhook.secret) == ("http://127.0.0.1:9000/payments", WHSEC)
    assert (config.webhook.timeout, config.webhook.give_up_after) == (3, 60)
    assert (config.store.url, config.store.history_days) == (f"sqlite:///{tmp_path}/sub/other.db", 7)
    assert (config.log.level, config.log.format) == ("debug", "json")


def test_all_faults_are_reported_in_one_go(write: Write) -> None:
    found = faults(
        write(
            '[platform]\nrate_per_second = "fast"\nmax_concurency = 3\n'
            + PARKS
            + "[poling]\nx = 1\n[log]\nlevel = true\n[webhook]\n"
            + '[store]\nurl = "mysql://x"\n'
        )
    )
    assert '[platform] rate_per_second: expected a whole number, at least 1, found "fast"' in found
    assert "[platform] max_concurency: unknown key, did you mean max_concurrency?" in found
    assert "[poling]: unknown section, did you mean [polling]?" in found
    assert "[log] level: expected one of debug, info, warning, error, found true" in found
    assert "[webhook] url: expected an http:// or https:// URL, found nothing" in found
    assert "[webhook] secret_file: expected a file with a whsec_… secret in it, found nothing" in found
    assert '[store] url: expected sqlite:/// and a path, or postgresql://…, found "mysql://x"' in found
    assert found.count("\n") == 6


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[platform]\nrate_per_second = true", "[platform] rate_per_second: expected a whole number"),
        (
            "[polling]\nqueries_per_order = 0.5",
            "[polling] queries_per_order: expected a number, 1 or above, found 0.5",
        ),
        ("[polling]\nqueries_per_order = true", "[polling] queries_per_order: expected a number"),
        (
            "[platform]\nrate_per_second = 0",
            "[platform] rate_per_second: expected a whole number, at least 1, found 0",
        ),
        ("[platform]\nrate_per_second = 2.0", "[platform] rate_per_second: expected a whole number"),
        ("[platform]\ntimeout_seconds = true", "[platform] timeout_seconds: expected a number of seconds above 0"),
        ("[platform]\ntimeout_seconds = 0", "[platform] timeout_seconds: expected a number of seconds above 0"),
        ("[platform]\ntimeout_seconds = inf", "[platform] timeout_seconds: expected a number of seconds above 0"),
        ("[polling]\nage_fraction = nan", "[polling] age_fraction: expected a number between 0 and 1, found nan"),
        ("[polling]\nmin_interval_seconds = 1e18", "[polling] min_interval_seconds: expected a number of seconds"),
        ("[polling]\nmin_interval_seconds = 901", "expected at most max_interval_seconds (900), found 901"),
        (
            "[polling]\nundecided_after_seconds = 9\ngive_up_after_seconds = 8",
            "[polling] undecided_after_seconds: expected at most give_up_after_seconds (8), found 9",
        ),
        ('[platform]\nurl = "http://api.example/p"', "[platform] url: expected an https:// URL"),
        ('[platform]\nurl = "https:///p"', "[platform] url: expected an https:// URL"),
        ('[platform]\nurl = "ftp://a/p"', "[platform] url: expected an https:// URL"),
        ('[platform]\nurl = "https://a/p?x=1"', "[platform] url: expected an https:// URL"),
        ('[platform]\nurl = "https://a:99999/p"', "[platform] url: expected an https:// URL"),
        ('[intake]\nlisten = "8710"', "[intake] listen: expected HOST:PORT or unix:/path"),
        ('[intake]\nlisten = "127.0.0.1:0"', "[intake] listen: expected HOST:PORT or unix:/path"),
        ('[intake]\nlisten = "::1:8710"', "[intake] listen: expected HOST:PORT or unix:/path"),
        ('[intake]\nlisten = "unix:poller.sock"', "[intake] listen: expected HOST:PORT or unix:/path"),
        (f'[intake]\nlisten = "unix:/{"a" * 107}"', "[intake] listen: expected HOST:PORT or unix:/path"),
        (
            '[intake]\nlisten = "[::]:8710"',
            "[intake] token_file: expected a token, since [::]:8710 is not loopback",
        ),
        (
            '[store]\nurl = "postgresql://u:hidden@db/x"',
            "[store] url: expected sqlite:/// and a path, or postgresql://",
        ),
        ('[store]\nurl = "postgresql://u@db"', "the url names no database"),
        (
            '[store]\npassword_file = "intake.token"',
            "[store] password_file: expected with a postgresql:// url alone",
        ),
        ("[store]\nlease_seconds = 15", "[store] lease_seconds: expected with a postgresql:// url alone"),
        *(
            (
                f'[store]\nurl = "postgresql://u@db/x"\nlease_seconds = {value}',
                f"[store] lease_seconds: expected a number of seconds from 6 to 600, found {value}",
            )
            for value in ("5", "601", "true")
        ),
        ('[store]\nurl = "sqlite://"', "[store] url: expected sqlite:/// and a path"),
        ("platform = 5", "[platform]: expected a table, found 5"),
        ('level = "debug"', "level: unknown key outside of any section"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(write: Write, text: str, fault: str) -> None:
    found = faults(write(text + "\n" + PARKS))
    assert fault in found
    assert "\n" not in found


@pytest.mark.parametrize("url", ["postgresql://u:hidden@db/x", "postgresql://u@db/x?password=hidden"])
def test_a_password_in_a_url_is_refused_and_not_shown(write: Write, url: str) -> None:
    found = faults(write(f'[store]\nurl = "{url}"\n{PARKS}'))
    assert "a password never stands in the url: name its file as password_file" in found
    assert "hidden" not in found


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:1/hidden@db/x",
        "postgresql://u:1/?hidden@db/x",
        "postgresql+asyncpg://u:hidden/@db/x",
        "postgresql:/u:hidden@db/x",
        "u:hidden@db/x",
        "host=db user=u password=hidden dbname=x",
        "host=db user=u PASSWORD = 'hidden one'",
    ],
)
def test_a_password_in_what_is_hardly_a_url_is_not_shown(write: Write, url: str) -> None:
    found = faults(write(f'[store]\nurl = "{url}"\n{PARKS}'))
    assert "[store] url: expected" in found
    assert "hidden" not in found


def test_a_store_in_postgresql_has_its_password_in_a_file(write: Write) -> None:
    url = "postgresql://poller@db1,db2/poller?target_session_attrs=read-write"
    path = write(f'[store]\nurl = "{url}"\npassword_file = "intake.token"\n{PARKS}')
    assert (loaded(path).store.url, loaded(path).store.password) == (url, TOKEN)
    assert loaded(path).store.lease == 15.0
    path = write(f'[store]\nurl = "{url}"\nlease_seconds = 6\n{PARKS}')
    assert loaded(path).store.lease == 6.0
    assert TOKEN not in repr(loaded(path))
    assert load_store(path, {}).password is None


def test_giving_up_early_needs_no_word_about_undecided(write: Write) -> None:
    assert loaded(write("[polling]\ngive_up_after_seconds = 5\n" + PARKS)).cadence.give_up_after == 5


@pytest.mark.parametrize("listen", ["127.0.0.1:8710", "[::1]:8710", "localhost:1", "127.8.8.8:65535"])
def test_loopback_needs_no_token(write: Write, listen: str) -> None:
    intake = loaded(write(f'[intake]\nlisten = "{listen}"\n{PARKS}')).intake
    assert intake.listen.is_loopback
    assert str(intake.listen) == listen


def test_a_socket_file_needs_no_token(write: Write) -> None:
    listen = loaded(write(f'[intake]\nlisten = "unix:/run/poller/poller.sock"\n{PARKS}')).intake.listen
    assert listen == Listen(unix_path="/run/poller/poller.sock")
    assert str(listen) == "unix:/run/poller/poller.sock"


@pytest.mark.parametrize("text", ["", "parks = []\n", f'[parks]\npark_uuid = "{PARK}"\n'])
def test_at_least_one_lot_is_required(write: Write, text: str) -> None:
    assert "[[parks]]: expected [[parks]] (two brackets) at least once" in faults(write(text))


def test_a_lot_configured_twice_is_refused(write: Write) -> None:
    assert faults(write(PARKS + PARKS)) == f'[[parks]] #2 park_uuid: expected each lot once, found "{PARK}" again'


def test_a_lot_without_name_or_secret_says_both(write: Write) -> None:
    found = faults(write("[[parks]]\n"))
    assert "[[parks]] #1 park_uuid: expected a string of 1 to 128 printable characters, found nothing" in found
    assert "[[parks]] #1 app_secret_file: expected a file with the lot's app_secret in it, found nothing" in found


def test_a_syntax_error_names_line_and_column(write: Write) -> None:
    assert "is not TOML: " in (found := faults(write("[platform]\nurl =\n")))
    assert "line 2, column 6" in found


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert faults(tmp_path / "none.toml") == "cannot be read: No such file or directory"
    assert faults(put(tmp_path / "latin.toml", b"\xff")) == "is not UTF-8 text"


@pytest.mark.parametrize(
    ("content", "secret"),
    [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" ä ", " ä ")],
)
def test_one_trailing_newline_is_not_part_of_a_secret(
    write: Write, tmp_path: Path, content: str, secret: str
) -> None:
    put(tmp_path / "park-1.secret", content)
    assert loaded(write(PARKS)).lots[PARK].app_secret == secret


@pytest.mark.parametrize("content", ["", "\n", "  \n"])
def test_an_empty_secret_is_refused(write: Write, tmp_path: Path, content: str) -> None:
    put(tmp_path / "park-1.secret", content)
    assert "[[parks]] #1 app_secret_file" in (found := faults(write(PARKS)))
    assert "park-1.secret is empty" in found


@pytest.mark.parametrize("mode", [0o604, 0o644])
def test_a_secret_that_the_world_can_read_is_refused(write: Write, tmp_path: Path, mode: int) -> None:
    (tmp_path / "park-1.secret").chmod(mode)
    assert f"can be read by everyone; mend it with: chmod o-rwx {tmp_path}/park-1.secret" in faults(write(PARKS))


def test_a_secret_that_the_group_can_read_is_taken(write: Write, tmp_path: Path) -> None:
    (tmp_path / "park-1.secret").chmod(0o640)
    assert loaded(write(PARKS)).lots[PARK].app_secret == SECRET


def test_a_secret_that_is_no_regular_file_is_refused(write: Write, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir(mode=0o700)
    assert "is not a regular file" in faults(write(PARKS.replace("park-1.secret", "folder")))
    assert "No such file or directory" in faults(write(PARKS.replace("park-1.secret", "none")))


def test_relative_secrets_are_looked_up_among_the_credentials_when_there_are_any(
    write: Write, tmp_path: Path
) -> None:
    (tmp_path / "credentials").mkdir()
    put(tmp_path / "credentials" / "park-1.secret", "from the credentials", 0o400)
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    assert loaded(write(PARKS), environ).lots[PARK].app_secret == "from the credentials"
    absolute = PARKS.replace("park-1.secret", str(tmp_path / "park-1.secret"))
    assert loaded(write(absolute), environ).lots[PARK].app_secret == SECRET


def test_the_files_of_a_folder_that_is_a_credential_are_found_under_systemds_names_for_them(
    write: Write, tmp_path: Path
) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    put(credentials / "secrets_park-1.secret", "from the folder", 0o400)
    environ = {"CREDENTIALS_DIRECTORY": str(credentials)}
    config = write(PARKS.replace("park-1.secret", "secrets/park-1.secret"))
    assert loaded(config, environ).lots[PARK].app_secret == "from the folder"
    assert "No such file or directory" in faults(config)  # where there is no systemd, it is a folder's file


@pytest.mark.parametrize("secret", ["whsec_", "whsec_%%%", WHSEC.removeprefix("whsec_"), WHSEC + "\n\n"])
def test_a_webhook_secret_is_whsec_and_base64(write: Write, tmp_path: Path, secret: str) -> None:
    put(tmp_path / "webhook.secret", secret)
    assert "webhook.secret must hold whsec_ and then base64" in faults(write(PARKS + WEBHOOK))


def test_a_token_is_what_a_header_can_carry(write: Write, tmp_path: Path) -> None:
    put(tmp_path / "intake.token", "two words")
    assert "must hold one line of ASCII" in faults(write(PARKS + '[intake]\ntoken_file = "intake.token"\n'))


def test_no_secret_is_in_a_fault_or_a_repr(write: Write, tmp_path: Path) -> None:
    whole = PARKS + WEBHOOK + '[intake]\ntoken_file = "intake.token"\n'
    assert not any(secret in repr(loaded(write(whole))) for secret in (SECRET, WHSEC, TOKEN))
    put(tmp_path / "webhook.secret", "not-whsec")
    text = whole.replace('"webhook.secret"', f'"{WHSEC}"') + f'token = "{TOKEN}"\n'
    found = faults(write(text + f'[platform]\nurl = "https://user:{SECRET}@host/p"\n'))
    assert found.count("\n") == 2
    assert not any(secret in found for secret in (SECRET, WHSEC, TOKEN))


def test_the_store_is_in_the_first_state_folder(write: Write) -> None:
    config = loaded(write(PARKS), {"STATE_DIRECTORY": "/var/lib/poller:/var/lib/other"})
    assert config.store.url == "sqlite:////var/lib/poller/poller.db"
    absolute = loaded(
        write(PARKS + '[store]\nurl = "sqlite:////srv/p.db"\n'), {"STATE_DIRECTORY": "/var/lib/poller"}
    )
    assert absolute.store.url == "sqlite:////srv/p.db"


def test_a_client_reads_the_intake_without_the_other_secrets(write: Write, tmp_path: Path) -> None:
    (tmp_path / "park-1.secret").unlink()
    settings = load_for_client(write(PARKS + '[intake]\ntoken_file = "intake.token"\n[platform]\nurl = 3\n'), {})
    assert (settings.intake.token, settings.park_uuids) == (TOKEN, (PARK,))


def test_a_client_learns_what_is_wrong_with_the_intake(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"\[intake\] listen: expected HOST:PORT"):
        load_for_client(write('[intake]\nlisten = "x"\n'), {})
