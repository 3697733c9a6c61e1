"""`poller demo` as it is typed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.command_processes import Start, finished, starting
from tests.integration.terminals import terminal


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with starting() as begin:
        yield begin


async def test_the_demo_ends_orders_of_every_kind_explains_its_columns_and_makes_do_with_ascii(
    start: Start,
) -> None:
    process = await start("demo", "--orders", "13", PYTHONUTF8="0", LC_ALL="POSIX", PYTHONIOENCODING="")
    async with asyncio.timeout(30):
        code, output, errors = await finished(process)
    assert (code, errors) == (0, "")
    for state in ("paid", "failed", "rejected", "cancelled", "expired"):
        assert f"| {state} " in output
    assert "13 of 13 results correct and told once" in output
    assert "news after: from settling" in output
    assert output.isascii()


async def test_a_signal_ends_the_demo_and_nothing_of_it_is_left(tmp_path: Path) -> None:
    async with terminal("demo", "--orders", "1000", TMPDIR=str(tmp_path)) as shown:
        await shown.shows("results ")
        assert len(within(tmp_path)) == 1
        shown.process.send_signal(signal.SIGTERM)
        assert await shown.end() == 128 + signal.SIGTERM
    assert shown.output.endswith("poller: the demo was ended; nothing of it is left\r\n")
    assert within(tmp_path) == []


def within(folder: Path) -> list[Path]:
    return list(folder.iterdir())
