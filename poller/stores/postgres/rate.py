"""The fleet's one rate to an account at the platform: each daemon reserves the next few moments for its queries.

A row has the moment up to which all is reserved, by PostgreSQL's own clock. A reservation is of moments a little
over 1/rate apart, for a fraction of a second; one that its daemon does not use in time is lost. Each daemon takes
its moments over to its monotonic clock, and knows how exactly it can: what is less exact is kept further apart.
A reservation does not wait for the disk, so a server that crashed or failed over may not know of the last ones:
the first who reserves there leaves room for all that could have been reserved.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from dataclasses import dataclass

from poller.ports import StoreUnavailableError
from poller.stores.postgres.connecting import Life
from poller.stores.postgres.connection import Connection, confirmed
from poller.stores.postgres.faults import is_passing
from poller.stores.postgres.lines import Line

MARGIN = 0.1  # moments are so much further apart, for what the way to the platform bunches up: 0.1 s in a second,
LATE_S = 0.03  # of which so much is for a daemon that comes late to its moment,
SPREAD_S = 0.02  # and so much for not knowing PostgreSQL's clock more exactly
AHEAD_S = 0.5  # further ahead nothing is reserved
BATCH_S = 0.1  # the most that one reservation takes: five daemons then find room ahead, and take turns
RETRY_S = 0.02  # after a refusal, once there should be room again
RESERVE_S = 2.0  # what one reservation may take
STEPPED_S = 3.0  # reserved further ahead than this: PostgreSQL's clock was set back
UNKNOWN_S = 2.0  # after a crash, until all that was reserved (AHEAD_S, BATCH_S) is over, and a second more
DRIFT = 0.0005  # of two clocks against each other, in seconds a second
SECOND = 1.0

_NOW = "SELECT extract(epoch FROM clock_timestamp())::float8"
_MAKE = "INSERT INTO rates (account, reserved) VALUES ($1, 0) ON CONFLICT DO NOTHING"
# A row of the account's name and a life of the server's says that somebody has reserved in that life.
_ENTER = (
    "WITH entered AS (INSERT INTO rates VALUES ($1 || ' life ' || $2, 0) ON CONFLICT DO NOTHING RETURNING true) "
    "UPDATE rates SET reserved = greatest(reserved, extract(epoch FROM clock_timestamp())::float8 + $3) "
    "WHERE account = $1 AND EXISTS (SELECT FROM entered) "
    "AND EXISTS (SELECT FROM rates WHERE starts_with(account, $1 || ' life '))"
)
_FORGET = "DELETE FROM rates WHERE starts_with(account, $1 || ' life ') AND account <> $1 || ' life ' || $2"
# $2 is how long it takes, $3 how far ahead one may begin, $4 from when on the clock must have been set back, $5
# how far ahead it begins at least: by then the answer is there.
# The lock comes first and the clock after it: whoever waited sees both as they are then.
_RESERVE = (
    "WITH locked AS MATERIALIZED (SELECT reserved FROM rates WHERE account = $1 FOR UPDATE), "
    "seen AS MATERIALIZED (SELECT reserved, extract(epoch FROM clock_timestamp())::float8 AS now FROM locked), "
    "begun AS MATERIALIZED (SELECT now, reserved > now + $4 AS set_back, CASE WHEN reserved > now + $4 "
    "THEN now + 1.0 ELSE greatest(reserved, now + $5) END AS start FROM seen), "
    "taken AS (UPDATE rates r SET reserved = b.start + $2 FROM begun b "
    "WHERE r.account = $1 AND (b.set_back OR b.start <= b.now + $3) RETURNING b.start) "
    "SELECT now, start, EXISTS (SELECT FROM taken) FROM begun"
)


class OtherClock:
    """Another machine's clock as seen by this one's monotonic: every look narrows it down, drift widens it."""

    def __init__(self) -> None:
        self._low = float("-inf")  # it is ahead by at least that, and at most
        self._high = float("inf")
        self._at = 0.0

    def saw(self, other: float, sent: float, received: float) -> bool:
        """It showed `other` at some time between the two; False where it has been set meanwhile."""
        widened = DRIFT * (received - self._at)
        low = max(self._low - widened, other - received)
        high = min(self._high + widened, other - sent)
        is_sound = low <= high
        self._low, self._high = (low, high) if is_sound else (other - received, other - sent)
        self._at = received
        return is_sound

    def spread(self, now: float) -> float:
        """How exactly it is known, in seconds."""
        return self._high - self._low + 2 * DRIFT * (now - self._at)

    def here(self, other: float) -> float:
        """The latest that it can be here when it shows `other` there."""
        return other - self._low


@dataclass(slots=True)
class Demand:
    """How many moments to reserve: more while all are used, one again after a pause, so that none is wasted."""

    most: int
    count: int = 1

    def used_up(self) -> None:
        self.count = min(self.count * 2, self.most)

    def lapsed(self) -> None:
        self.count = 1

    def refused(self) -> None:
        self.count = max(self.count // 2, 1)


class SharedRate:
    """`poller.ports.FleetThrottle`; `line` is its own, `rate` whole and >= 1."""

    def __init__(self, line: Line, account: str, rate: int) -> None:
        self._line = line
        self._account = account
        self._clock = OtherClock()
        self._moments: deque[float] = deque()  # on this machine's monotonic clock
        self._turn = asyncio.Lock()
        self._late = 0.0  # how much later than the quickest ones the last answer came
        self._life: Life | None = None  # the server's, that has a row of the account's
        self._set(rate)

    def set_rate(self, rate: int) -> None:
        """Take another rate. What is reserved at the old one is let go, with a second's pause."""
        self._set(rate)
        self._not_before = time.monotonic() + SECOND

    async def acquire(self) -> None:
        """See `Throttle`. Raises StoreUnavailableError."""
        async with self._turn:
            while True:
                moment = await self._next()
                await asyncio.sleep(max(moment - time.monotonic(), 0.0))
                if time.monotonic() <= moment + LATE_S and moment >= self._not_before:
                    return

    def _set(self, rate: int) -> None:
        self._gap = (1.0 + MARGIN) / rate
        self._demand = Demand(max(int(BATCH_S / self._gap), 1))
        self._moments.clear()
        self._not_before = float("-inf")

    async def _next(self) -> float:
        """The next moment that has not passed."""
        while True:
            while self._moments:
                moment = self._moments.popleft()
                if time.monotonic() <= moment + LATE_S:
                    if not self._moments:
                        self._demand.used_up()
                    return moment
                self._demand.lapsed()
            await asyncio.sleep(max(self._not_before - time.monotonic(), 0.0))
            await asyncio.sleep(await self._reserve())

    async def _reserve(self) -> float:
        """Reserve moments; returns the seconds after which to try again where there were none."""
        try:
            return await self._reserve_once()
        except StoreUnavailableError as fault:
            if not is_passing(fault):
                raise
            return await self._reserve_once()

    async def _reserve_once(self) -> float:
        count, gap = self._demand.count, self._gap
        async with self._line.use(RESERVE_S) as connection:
            if self._life is None or self._life != self._line.life:
                await self._enter(connection)
            if self._clock.spread(time.monotonic()) > SPREAD_S and not await self._look(connection):
                return 0.0
            pad = max(self._clock.spread(time.monotonic()) - SPREAD_S, 0.0)
            seconds, sent = count * gap + 2 * pad, time.monotonic()
            stepped = STEPPED_S + seconds + gap
            row = await connection.fetchrow(_RESERVE, self._account, seconds, AHEAD_S, stepped, self._late)
        if row is None:
            self._life = None  # a standby that took over has not got it yet
            return RETRY_S
        now, start, is_taken = row
        if not self._saw(now, sent):
            return 0.0
        self._late = min(max(time.monotonic() - self._clock.here(now), 0.0), AHEAD_S)
        if not is_taken:
            self._demand.refused()
            return float(max(start - now - AHEAD_S, 0.0)) + RETRY_S * (0.5 + random.random())  # noqa: S311
        if gap == self._gap:  # the rate is still the same
            self._moments.extend(self._clock.here(start + pad + index * gap) for index in range(count))
        return 0.0

    async def _enter(self, connection: Connection) -> None:
        """Begin to reserve with a server that is new to this daemon, its clock too."""
        life = self._line.life
        await connection.execute("BEGIN; SET LOCAL synchronous_commit = on")
        await connection.execute(_MAKE, self._account)
        if life is not None:
            name = f"{life.timeline} {life.since}"
            await connection.execute(_ENTER, self._account, name, UNKNOWN_S)
            await connection.execute(_FORGET, self._account, name)
        with confirmed(connection):
            await connection.execute("COMMIT")
        self._life, self._clock = life, OtherClock()
        self._moments.clear()

    async def _look(self, connection: Connection) -> bool:
        sent = time.monotonic()
        return self._saw(await connection.fetchval(_NOW), sent)

    def _saw(self, other: float, sent: float) -> bool:
        """Take in what the other clock showed; where it was set, what others hold goes by it as it was."""
        is_sound = self._clock.saw(other, sent, time.monotonic())
        if not is_sound:
            self._not_before = time.monotonic() + SECOND
        return is_sound
