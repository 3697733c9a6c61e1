"""A store's url that has nobody verified is told of, at the start."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from poller.daemon import say_what_is_lacking
from poller.stores import unverified

WEAK = "postgresql://poller@db1:5433,localhost,db2/poller?sslmode=require"


def test_the_daemon_names_the_servers_and_what_to_do() -> None:
    with capture_logs() as logs:
        say_what_is_lacking(WEAK, None)
    [line] = logs
    assert (line["event"], line["log_level"], line["servers"]) == (
        "store.unverified",
        "warning",
        ["db1:5433", "db2"],
    )
    assert "take sslmode out of [store] url" in line["hint"]


@pytest.mark.parametrize(
    "url", ["sqlite:////tmp/x.db", "postgresql://db/x", "postgresql://db/x?sslmode=verify-ca", "postgresql:///x"]
)
def test_where_all_is_verified_nothing_is_said(url: str) -> None:
    with capture_logs() as logs:
        say_what_is_lacking(url, None)
    assert not logs
    assert not unverified(url)
