"""The log: one JSON object a line, small, whole, and without secrets."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from poller import logs
from poller.core.orders import State

Lines = Callable[[], list[dict[str, Any]]]
log = structlog.get_logger()


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def lines(capfdbinary: pytest.CaptureFixture[bytes]) -> Lines:
    logs.configure("debug", "json", stream_is_terminal=False, journal=False)

    def read() -> list[dict[str, Any]]:
        output = capfdbinary.readouterr().out
        assert all(len(line) < 4_000 for line in output.splitlines())
        return [json.loads(line) for line in output.splitlines()]

    return read


def test_a_line_is_event_level_timestamp_and_then_the_rest(lines: Lines) -> None:
    log.info("order.final", state=State.PAID, at=datetime(2026, 11, 24, 6, 12, 46, 5_000, UTC), gap=1.5, none=None)
    (line,) = lines()
    assert list(line) == ["event", "level", "timestamp", "state", "at", "gap", "none"]
    assert (line["event"], line["level"], line["state"], line["at"]) == (
        "order.final",
        "info",
        "paid",
        "2026-11-24T06:12:46.005Z",
    )
    assert datetime.fromisoformat(line["timestamp"]).tzinfo is not None
    assert len(line["timestamp"]) == len("2026-11-24T06:12:46.005Z")
    assert line["timestamp"].endswith("Z")


def test_a_lines_time_is_the_clocks_cut_to_the_millisecond(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    for ns in (1_795_500_766_004_999_999, 1_795_500_766_999_999_999, 1_795_500_767_000_000_000):
        monkeypatch.setattr("time.time_ns", lambda ns=ns: ns)
        log.info("x")
    assert [line["timestamp"] for line in lines()] == [
        "2026-11-24T06:12:46.004Z",
        "2026-11-24T06:12:46.999Z",
        "2026-11-24T06:12:47.000Z",
    ]


def test_a_line_is_one_write() -> None:
    class Descriptor:
        def __init__(self) -> None:
            self.writes: list[bytes] = []

        def write(self, data: bytes) -> int:
            self.writes.append(data)
            return len(data)

        def flush(self) -> None:
            pass

    logs.configure("info", "json", stream_is_terminal=False, journal=False)
    descriptor = Descriptor()
    structlog.configure(logger_factory=structlog.BytesLoggerFactory(descriptor))  # type: ignore[arg-type]
    log.info("a.first")
    log.info("a.second")
    assert [write[-1:] for write in descriptor.writes] == [b"\n", b"\n"]


def test_text_that_is_not_ascii_is_kept(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    logs.configure("info", "json", stream_is_terminal=False, journal=False)
    log.info("order.polled", message="请求参数错误")
    assert "请求参数错误".encode() in capfdbinary.readouterr().out


def test_text_that_is_not_valid_unicode_does_not_break_the_line(lines: Lines) -> None:
    log.info("order.polled", message="a\ud800b", numbers=[float("nan"), 2**80])
    assert lines()[0]["message"] == "a?b"


@pytest.mark.parametrize(
    "fields",
    [
        {"message": "x" * 50_000},
        {"message": '"' * 3_000, "hint": "好" * 3_000, "seqno": "\n" * 3_000},
        {"faults": ["y" * 200] * 500},
        {f"key{at}": "z" * 100 for at in range(200)},
    ],
)
def test_a_record_stays_small_and_valid(lines: Lines, fields: dict[str, object]) -> None:
    log.info("order.polled", park_uuid="p", pay_partner="q", **fields)
    (line,) = lines()
    assert (line["event"], line["park_uuid"], line["pay_partner"]) == ("order.polled", "p", "q")


def test_the_largest_order_is_logged_whole(lines: Lines) -> None:
    metadata = {"note": "好" * 676, "plate": "粤B660PP"}
    log.info("order.final", park_uuid="车" * 128, pay_partner="号" * 128, metadata=metadata, event_id="e" * 40)
    (line,) = lines()
    assert line["metadata"] == metadata
    assert line["pay_partner"] == "号" * 128


def test_metadata_of_any_depth_can_be_logged(lines: Lines) -> None:
    deep: object = []
    for _ in range(5_000):
        deep = [deep]
    log.info("order.accepted", metadata={"deep": deep})
    assert lines()[0]["event"] == "order.accepted"


def test_values_under_the_names_of_secrets_are_masked_but_in_metadata(lines: Lines) -> None:
    log.info("x", token="t0ken", nested={"App_Secret": "s3cret", "sign": None}, metadata={"sign": "exit 4"})
    (line,) = lines()
    assert (line["token"], line["nested"]) == ("***", {"App_Secret": "***", "sign": None})
    assert line["metadata"] == {"sign": "exit 4"}


def test_objects_are_logged_by_their_repr_which_hides_secrets(lines: Lines) -> None:
    @dataclass
    class Settings:
        name: str
        key: str = field(repr=False)

    log.info("x", settings=Settings("a", "s3cret"))
    (line,) = lines()
    assert line["settings"].endswith("Settings(name='a')")


def test_an_exception_is_one_field_without_local_variables_or_signed_urls(lines: Lines) -> None:
    def fail(planted: str) -> None:
        raise OSError("no route to https://api.example/payment?sign=ABC, sign=DEF")

    try:
        fail("s3" + "cret")
    except OSError:
        log.exception("daemon.crashed")
    (line,) = lines()
    assert line["level"] == "error"
    assert line["exception"].endswith("OSError: no route to https://… sign=***")
    assert "s3cret" not in line["exception"]


def test_what_is_below_the_level_is_not_written(lines: Lines) -> None:
    logs.set_level("warning")
    log.info("a.first")
    log.warning("a.second")
    assert [line["event"] for line in lines()] == ["a.second"]


def test_libraries_are_heard_from_warning_on_and_without_urls(lines: Lines) -> None:
    logging.getLogger("aiohttp.access").info("GET /v1/orders")
    logging.getLogger("aiohttp.client").warning("cookies of %s", "http://a/b?sign=ABC")
    logging.getLogger("asyncio").log(45, "odd")
    heard = [(line["level"], line["event"], line["logger"], line["message"]) for line in lines()]
    assert heard == [
        ("warning", "library.logged", "aiohttp.client", "cookies of http://…"),
        ("error", "library.logged", "asyncio", "odd"),
    ]


def test_setting_up_twice_does_not_double_the_lines(lines: Lines) -> None:
    logs.configure("info", "json", stream_is_terminal=False, journal=False)
    logging.getLogger("asyncio").error("once")
    assert len(lines()) == 1


@pytest.mark.parametrize("style", ["auto", "json"])
def test_the_journal_gets_a_priority_before_each_line(
    capfdbinary: pytest.CaptureFixture[bytes], style: str
) -> None:
    logs.configure("debug", style, stream_is_terminal=False, journal=True)
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(log, level)("x", message="y" * 9_000)
    output = capfdbinary.readouterr().out.splitlines()
    assert [line[:4] for line in output] == [b"<7>{", b"<6>{", b"<4>{", b"<3>{", b"<2>{"]
    assert all(len(line) < 4_000 and json.loads(line[3:]) for line in output)


def test_the_journal_is_known_by_its_stream() -> None:
    reading, writing = os.pipe()
    try:
        status = os.fstat(writing)
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert logs.under_journal(environ, writing)
        assert not logs.under_journal({"JOURNAL_STREAM": "1:2"}, writing)
        assert not logs.under_journal({}, writing)
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize(("style", "terminal"), [("auto", True), ("console", False)])
def test_a_person_gets_plain_lines_without_control_characters(
    capfdbinary: pytest.CaptureFixture[bytes], style: str, terminal: bool
) -> None:
    logs.configure("info", style, stream_is_terminal=terminal, journal=True)
    log.info("order.polled", message="\x1b]0;owned\x07", token="t0ken")
    output = capfdbinary.readouterr().out
    assert b"order.polled" in output
    assert b"owned" in output
    assert b"\x1b]0" not in output
    assert b"t0ken" not in output
    assert not output.startswith((b"<", b"{"))
