"""What a url of PostgreSQL's says: which servers, and how far they are believed."""

from __future__ import annotations

import pytest

from poller.stores.postgres.address import PasswordInUrlError, parse


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("postgresql://u@db/x", [("db", None)]),
        (
            "postgresql://u@db1:5433,[2001:db8::1]:5434,10.0.0.3/x",
            [("db1", 5433), ("2001:db8::1", 5434), ("10.0.0.3", None)],
        ),
        ("postgresql:///x?host=db1,db2&port=5433", [("db1", 5433), ("db2", 5433)]),
        ("postgresql:///x?host=/run/postgresql,db2&port=5432,5433", [("/run/postgresql", 5432), ("db2", 5433)]),
        ("postgres://%2Frun%2Fpostgresql/x", [("/run/postgresql", None)]),
        ("postgresql:///x", [(None, None)]),
    ],
)
def test_every_server_is_read(url: str, servers: list[tuple[str | None, int | None]]) -> None:
    assert [(server.host, server.port) for server in parse(url).servers] == servers


def test_of_several_servers_the_one_that_takes_writes_is_wanted_unless_the_url_says_otherwise() -> None:
    assert parse("postgresql://u@a/x").target == "any"
    assert parse("postgresql://u@a,b/x").target == "read-write"
    assert parse("postgresql://u@a,b/x?target_session_attrs=primary").target == "primary"


def test_the_place_shows_servers_and_database_and_not_the_user() -> None:
    assert parse("postgresql://u@a:1,[::1]:2/x?sslmode=require").place == "a:1,[::1]:2/x"
    assert parse("postgresql:///x").place == "the local socket/x"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u@a,,b/x", "one of the hosts between the commas is empty"),
        ("postgresql://u@a:0/x", "a port is between 1 and 65535"),
        ("postgresql://u@a:db/x", "each host is HOST or HOST:PORT"),
        ("postgresql://u@a:1:2/x", "each host is HOST or HOST:PORT"),
        ("postgresql:///x?host=a,b,c&port=1,2", "as many ports as hosts"),
        ("postgresql://u@a/x?target_session_attrs=standby", "target_session_attrs=read-write is for it"),
        ("postgresql://u@a/x?sslmode=full", "sslmode is one of verify-full, verify-ca"),
        ("postgresql://u@a/x?sslrootcert=ca.pem", "sslrootcert, sslcert and sslkey are absolute paths"),
        ("postgresql://u@a/x?sslmode", "not KEY=VALUE"),
    ],
)
def test_what_is_wrong_with_a_url_is_said(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@h\u2100st/x",
        "postgresql://u:hunter2@[h]/x",
        "postgresql://u@h/x?pass%77ord=hunter2",
    ],
)
def test_a_url_that_cannot_be_read_shows_no_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"postgresql://USER@HOST|a password never stands") as raised:
        parse(url)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hidden@a/x",
        "postgresql://u:1/hidden@a/x",
        "postgresql://u:1#hidden@a/x",
        "postgresql://u:1/?hidden@a/x",
        "postgresql://u:1/x?a=hidden@a/x",
        "postgresql://u:1@hidden@a/x",
        "postgresql://u%3Ahidden@a/x",
        "postgresql://a/x?user=u&Password=hidden",
        "postgresql://a/x?user=u&p%61ssword=hidden",
    ],
)
def test_a_password_is_found_whatever_characters_it_has(url: str) -> None:
    with pytest.raises(PasswordInUrlError) as refused:
        parse(url)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize(
    ("host", "is_here"),
    [
        ("localhost", True),
        ("127.0.0.2", True),
        ("[::1]", True),
        ("%2Frun", True),
        ("10.0.0.1", False),
        ("db", False),
    ],
)
def test_only_what_never_leaves_this_machine_is_here(host: str, is_here: bool) -> None:
    address = parse(f"postgresql://u@{host}/x?sslmode=prefer")
    assert address.servers[0].is_here is is_here
    assert bool(address.unverified) is not is_here


def test_without_a_word_about_tls_nothing_is_unverified() -> None:
    assert parse("postgresql://u@db1,db2/x").unverified == ()
