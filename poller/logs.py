"""The log: one JSON object a line on stdout, or lines for a person on a terminal.

A line is one write, and small enough for the journal (under 4,096 bytes, above which journalctl shows null).
Whatever is logged, values under the names of secrets are masked and objects appear by their repr alone.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from functools import lru_cache

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from poller.core.documents import timestamp

LARGEST_LINE = 3_990  # bytes, without its newline
DEEPEST = 40  # levels of nesting; what metadata holds below is left out of the log
LAST_FRAMES = 12  # of a traceback
LAST_RESORT = ("event", "level", "timestamp", "park_uuid", "pay_partner", "event_id", "state")

_AS_THEY_ARE = frozenset({bool, int, float, type(None)})
_SECRET_NAMES = frozenset({"secret", "token", "sign", "authorization", "app_secret"})
_URL = re.compile(r"\b(https?)://[^\s'\"<>)]+")
_SECRET_IN_TEXT = re.compile(r"(?i)\b(sign|token|secret|app_secret)=[^&\s'\"]+")
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # sd-daemon(3)
_encode = msgspec.json.Encoder().encode


def configure(level: str, style: str, *, stream_is_terminal: bool, journal: bool) -> None:
    """Set the log up for the whole process.

    `level` and `style` are `[log] level` and `format`; `journal` says that stdout goes to systemd's journal,
    which takes each line's priority from a `<N>` before it.
    """
    console = style == "console" or (style == "auto" and stream_is_terminal)
    output = Output()
    renderer: Processor = Console(colors=stream_is_terminal) if console else JsonLines(journal=journal)
    structlog.configure(
        processors=[_prepare, renderer],
        logger_factory=lambda *_: output,
        cache_logger_on_first_use=False,  # `set_level` reaches every logger
    )
    set_level(level)
    root = logging.getLogger()
    for handler in [one for one in root.handlers if isinstance(one, Libraries)]:
        root.removeHandler(handler)
    root.addHandler(Libraries(logging.WARNING))
    root.setLevel(logging.WARNING)


def set_level(level: str) -> None:
    """Log from this level on: debug, info, warning or error."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
    _Level.is_debug = level == "debug"


class _Level:
    is_debug = True  # as structlog has it until it is told otherwise


def is_debug() -> bool:
    """Whether debug lines are wanted: whoever makes one for each query asks first, since even to drop it costs."""
    return _Level.is_debug


def under_journal(environ: Mapping[str, str], descriptor: int = 1) -> bool:
    """Whether a descriptor of this process (stdout) is the journal's stream (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class Libraries(logging.Handler):
    """Brings what libraries log through the standard library's `logging` into the same output, without URLs."""

    def emit(self, record: logging.LogRecord) -> None:
        level = max(record.levelno // 10 * 10, logging.WARNING)
        structlog.get_logger().log(
            min(level, logging.CRITICAL),
            "library.logged",
            logger=record.name,
            message=_scrubbed(record.getMessage()),
            exc_info=record.exc_info or None,
        )


class Output:
    """Writes a line to stdout in one go. One that cannot be written is dropped: orders matter more than that."""

    def msg(self, line: bytes) -> None:
        """Write one line, without its newline."""
        # Unbuffered: what could not be written must not be tried again at the exit, and fail it.
        stream = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)
        rest = line + b"\n"
        try:
            while rest:
                rest = rest[stream.write(rest) :]
        except (OSError, ValueError):
            return

    log = debug = info = warning = error = critical = exception = msg


class JsonLines:
    """Renders a record as one line of JSON: event, level and timestamp first."""

    def __init__(self, *, journal: bool) -> None:
        self._journal = journal

    def __call__(self, logger: WrappedLogger, method: str, record: EventDict) -> bytes:
        first = {"event": record.pop("event"), "level": record.pop("level"), "timestamp": record.pop("timestamp")}
        ordered = {**first, **record}
        prefix = b"<%d>" % _PRIORITIES[ordered["level"]] if self._journal else b""
        line = prefix + _encode(ordered)
        return line if len(line) <= LARGEST_LINE else prefix + _shortened(ordered)


class Console:
    """Renders a record for a person; control characters in it cannot reach the terminal."""

    def __init__(self, *, colors: bool) -> None:
        self._render = structlog.dev.ConsoleRenderer(
            colors=colors, sort_keys=False, exception_formatter=structlog.dev.plain_traceback
        )

    def __call__(self, logger: WrappedLogger, method: str, record: EventDict) -> bytes:
        for name, value in record.items():
            if isinstance(value, str) and name != "exception":
                record[name] = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in value)
        return self._render(logger, method, record).encode()


def _prepare(logger: WrappedLogger, method: str, record: EventDict) -> EventDict:
    """The record with its level and its time, and nothing in it that cannot be shown."""
    if "exc_info" in record:
        _flatten_exception(record)
    for name, value in record.items():
        kind = type(value)
        is_plain = value.isprintable() if kind is str else kind in _AS_THEY_ARE or (kind is dict and not value)
        if not is_plain or _is_secret(name):
            record[name] = _item(name, value, masking=True, depth=0)
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    record["level"] = "error" if method == "exception" else method
    record["timestamp"] = f"{_second(seconds)}.{rest // 1_000_000:03d}Z"
    return record


@lru_cache(maxsize=1)  # many lines come in one second
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _flatten_exception(record: EventDict) -> None:
    """The traceback in one field, its last frames only, and without the values of local variables."""
    info = record.pop("exc_info")
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        record["exception"] = _scrubbed("".join(traceback.format_exception(error, limit=-LAST_FRAMES)).rstrip())


def _item(name: str, value: object, *, masking: bool, depth: int) -> object:
    """The value under its name. `metadata` is the lot's own and handed back unmasked."""
    if value is None:
        return None
    if masking and _is_secret(name):
        return "***"
    return _plain(value, masking=masking and name != "metadata", depth=depth)


@lru_cache(maxsize=512)
def _is_secret(name: str) -> bool:
    return name.lower() in _SECRET_NAMES


def _plain(value: object, *, masking: bool, depth: int = 0) -> object:
    """The value as JSON can hold it."""
    kind = type(value)
    if kind in _AS_THEY_ARE:
        return value
    match value:
        case Enum():
            return _plain(value.value, masking=masking, depth=depth)
        case str():
            return value if value.isprintable() else value.encode(errors="replace").decode()
        case int() | float():
            return value
        case datetime():
            return timestamp(value)
        case Mapping() | list() | tuple() | set() | frozenset() if depth >= DEEPEST:
            return "…"
        case Mapping():
            return {
                str(name): _item(str(name), item, masking=masking, depth=depth + 1) for name, item in value.items()
            }
        case list() | tuple() | set() | frozenset():
            return [_plain(item, masking=masking, depth=depth + 1) for item in value]
        case _:
            return _scrubbed(repr(value))


def _scrubbed(text: str) -> str:
    text = _SECRET_IN_TEXT.sub(r"\1=***", _URL.sub(r"\1://…", text))
    return text.encode(errors="replace").decode()


def _shortened(record: Mapping[str, object]) -> bytes:
    """The record within the limit: its own long texts go first, then those of the values inside it."""
    for depth in (1, DEEPEST):
        for longest in (1024, 512, 256, 128, 64):
            line = _encode(_cut(record, longest, depth))
            if len(line) <= LARGEST_LINE - len("<N>"):
                return line
    named = {name: record[name] for name in LAST_RESORT if name in record}
    return _encode(_cut({**named, "shortened": True}, 256, 1))


def _cut(value: object, longest: int, depth: int) -> object:
    match value:
        case str() if len(value) > longest:
            return f"{value[: longest // 2]} … {value[-longest // 2 :]}"
        case dict() if depth:
            return {name: _cut(item, longest, depth - 1) for name, item in value.items()}
        case list() if depth:
            kept = [_cut(item, longest, depth - 1) for item in value[:20]]
            return kept if len(value) <= 20 else [*kept, f"… {len(value) - 20} more"]
        case _:
            return value
