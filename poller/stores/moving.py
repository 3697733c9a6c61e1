"""A lot's own store moves into that of a fleet, which runs meanwhile.

What can be killed at any moment goes on where it was: the mark on the file is on disk before the first order can
be claimed on the other side, and it names the ids that the orders have there, so that what has been moved is
recognised. Ages are differences of running time, which stands still while no daemon has the order; due times are
kept by the wall clock, as at a restart.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from poller.core.delivery import DeliveryState
from poller.core.orders import Order, State
from poller.ports import Clock, LeaseLostError, Stamp, StoreMovedError, StoreUnavailableError
from poller.stores.dossier import Dossier, Shift
from poller.stores.postgres import PostgresStore
from poller.stores.postgres.address import parse
from poller.stores.sqlite.departure import Departure, Differing
from poller.stores.sqlite.mark import Mark
from poller.stores.sqlite.mark import told as said_by
from poller.timeline import Timeline

SMALLEST = 2**40  # no id of a file is above it
LARGEST_BITS = 59  # so that ids have 18 digits at most: see `parse_cursor` of the intake

Progress = Callable[[Mark, int], None]  # how far it has come, and of how many orders


class UnusableUrlError(Exception):
    """The driver does not take something in the url. The message says what."""


async def move(
    departure: Departure, url: str, *, password: str | None, clock: Clock, progress: Progress
) -> tuple[Mark, bool]:
    """Move everything in the file to the PostgreSQL at `url`; the mark at the end, False where that was before.

    An order that is on the other side already, under another id, stays as it is there. Raises UnusableUrlError;
    StoreMovedError where the file has gone, or half gone, elsewhere; StoreTooNewError, StoreCorruptError and
    StoreUnavailableError, after which it can be called again.
    """
    before = departure.mark
    if before is not None and before.done:
        if before.url != url:
            raise StoreMovedError(said_by(before, departure.path))
        return before, False
    name = f"move of {departure.path.absolute()} on {socket.gethostname()}"
    try:
        store = await PostgresStore.open(url, password=password, name=name)
    except ValueError as error:
        raise UnusableUrlError(str(error)) from None
    try:
        mark = _begun(departure, url, await store.identity())
        done = replace(await _move_all(departure, mark, store, clock, progress), done=True)
    except BaseException:
        with suppress(StoreUnavailableError):  # the first fault is the one to tell
            await store.close()
        raise
    await store.close()
    departure.keep(done)
    return done, True


def _begun(departure: Departure, url: str, target: str) -> Mark:
    """The mark of a move that goes on, or that begins now."""
    begun = departure.mark
    if begun is None:
        ids = -SMALLEST - secrets.randbits(LARGEST_BITS)
        return departure.begin(Mark(url, parse(url).place, target, ids))
    if begun.target != target:
        raise StoreMovedError(said_by(begun, departure.path))
    return begun


async def _move_all(
    departure: Departure, mark: Mark, store: PostgresStore, clock: Clock, progress: Progress
) -> Mark:
    total = departure.count()
    last = departure.stamp() or Stamp(0.0, 0.0, clock.wall())
    here, there = Timeline(clock, last), Timeline(clock, store.last_stamp())
    store.keep_time(there.stamp)
    store.fleet().follow(there.advance)
    following, page = departure.following(mark)
    while page:
        shift = Shift(mark.ids, there.run() - last.run, there.schedule() - here.schedule())
        try:
            known = await store.take_in([shift.of(dossier) for dossier in page])
        except LeaseLostError:  # this process was held up; nothing was written
            continue
        mark = _counted(following, page, known)
        departure.keep(mark, _differing(page, known))
        progress(mark, total)
        following, page = departure.following(mark)
    return mark


def _counted(mark: Mark, page: Sequence[Dossier], known: Sequence[Order | None]) -> Mark:
    moved = [dossier for dossier, other in zip(page, known, strict=True) if other is None]
    states = [told.delivery.state for dossier in moved for told in dossier.notices]
    return replace(
        mark,
        orders=mark.orders + len(moved),
        pending=mark.pending + sum(dossier.order.state is State.PENDING for dossier in moved),
        notices=mark.notices + len(states),
        undelivered=mark.undelivered + states.count(DeliveryState.PENDING),
        known=mark.known + len(page) - len(moved),
    )


def _differing(page: Sequence[Dossier], known: Sequence[Order | None]) -> list[tuple[int, Differing]]:
    return [
        (dossier.order.id, Differing(dossier.order.key, dossier.order.state, other.state))
        for dossier, other in zip(page, known, strict=True)
        if other is not None and State.PENDING not in (other.state, dossier.order.state)
        if other.state is not dossier.order.state
    ]
