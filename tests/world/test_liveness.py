"""A daemon that makes no progress ends, saying why."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from poller.core.orders import OrderKey
from poller.core.replies import Result
from poller.engine import Engine
from poller.liveness import StalledError
from poller.stores.sqlite import SqliteStore
from tests.world.stage import IN_PROGRESS, Stage, orders


async def in_progress(key: OrderKey, now: float) -> Result:
    return IN_PROGRESS


async def an_hour(engine: Engine) -> None:
    await engine.desk.submit(orders(1))
    await asyncio.sleep(3600.0)


def _stuck(*_words: Any, **_more: Any) -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


@pytest.mark.parametrize(
    ("method", "loop"),
    [
        ("claim", "poller"),
        ("oldest_untold", "deadlines"),
        ("unlogged", "log of notices"),
        ("prune", "housekeeping"),
    ],
)
def test_a_loop_that_gets_no_answer_from_its_store_is_found_out(
    method: str, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SqliteStore, method, _stuck)
    with pytest.RaisesGroup(pytest.RaisesExc(StalledError, match=loop), flatten_subgroups=True):
        Stage(in_progress).play(an_hour)


def test_a_transaction_that_never_ends_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SqliteStore, "busy_since", lambda _self: 0.0)
    with pytest.RaisesGroup(pytest.RaisesExc(StalledError, match="disk"), flatten_subgroups=True):
        Stage(in_progress).play(an_hour)


def test_a_defect_in_a_loop_ends_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    async def defect(*_words: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(SqliteStore, "oldest_untold", defect)
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        Stage(in_progress).play(an_hour)


def test_an_idle_daemon_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[float] = []
    run: Callable[..., Any] = Engine.run

    async def watched(self: Engine, stop: asyncio.Event, close_doors: Any) -> None:
        await run(self, stop, close_doors, lambda: alive.append(asyncio.get_running_loop().time()))

    monkeypatch.setattr(Engine, "run", watched)

    async def nothing_to_do(_engine: Engine) -> None:
        await asyncio.sleep(600.0)

    Stage(in_progress).play(nothing_to_do)
    assert len(alive) >= 100
