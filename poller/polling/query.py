"""One query: ask, decide, record, say so."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

import structlog

from poller.core.cadence import Cadence
from poller.core.decision import AskAgain, Decision, End, decide
from poller.core.orders import Answer, Change, Order, Prompt, State, contradict, end
from poller.core.outage import Outage, Turn
from poller.core.replies import Cause, Result, Settled, Unavailable, Unclear, error_of
from poller.ledger import Ledger
from poller.logs import is_debug
from poller.metrics import Metrics
from poller.polling.pace import pace_of
from poller.polling.turns import HELD_MAX, Flight, Turns
from poller.ports import Clock, Lease, Pending, Platform, Progress, Store, StoreUnavailableError
from poller.timeline import Timeline

STORE_RETRY_S = 2.0
UNKNOWN_LOT_S = 60.0  # within this an order is asked about once its lot is configured again
UNSENT_S = 0.5  # a query that could not go out is tried again after this
KEPT_S = 30.0  # an order due within this stays in memory

log = structlog.get_logger()


class Asker:
    def __init__(
        self,
        *,
        store: Store,
        platform: Platform,
        lease: Lease,
        ledger: Ledger,
        clock: Clock,
        timeline: Timeline,
        turns: Turns,
        metrics: Metrics,
        cadence: Cadence,
    ) -> None:
        self.cadence = cadence
        self.pace = pace_of(cadence, None)
        self._store = store
        self._platform = platform
        self._lease = lease
        self._ledger = ledger
        self._clock = clock
        self._timeline = timeline
        self._turns = turns
        self._metrics = metrics

    async def fly(self, flight: Flight) -> None:
        """Ask about one order and record what comes of it; the order is back in turns, or ended, or put off."""
        pending = flight.pending
        if pending.cancelling:
            await self._end(flight, End(State.CANCELLED))
        elif self._platform.knows(pending.key.park_uuid):
            await self._ask(flight)
        else:
            self.put_off(pending)

    def configure(self, cadence: Cadence) -> None:
        """Take new settings over."""
        self.cadence, self.pace = cadence, pace_of(cadence, self.pace)

    def put_off(self, pending: Pending) -> None:
        """The lot is not configured any more: its orders stay pending and are not asked about."""
        due = self._timeline.schedule() + UNKNOWN_LOT_S
        self._store.note(Progress(pending.id, None, due, pending.errors, keep=False))

    async def _ask(self, flight: Flight) -> None:
        pending = flight.pending
        late = self._timeline.schedule() - pending.due
        started = self._clock.monotonic()
        if flight.lost or not self._lease.holds():
            self._put_back(flight)
            return
        try:
            result = await self._platform.query(pending.key)
        except StoreUnavailableError:  # nothing was sent: the lease ended, or the rate cannot be known
            self._put_back(flight)
            return
        took = self._clock.monotonic() - started
        self._metrics.queried(result, took, late)
        answer = _answer(result, self._clock.wall(), pending.prompt)
        pending.timed_out = isinstance(result, Unavailable) and result.cause is Cause.TIMEOUT
        self._observe(flight, result)
        if not flight.counts():
            return  # the others ask about it now
        if pending.state is not State.PENDING:
            self._log_polled(pending, result, took, None)
            await self._compare(pending, result, answer)
            return
        decision = self._decide(flight, result)
        self._log_polled(pending, result, took, decision.pause if isinstance(decision, AskAgain) else None)
        if isinstance(decision, AskAgain):
            pending.prompt = flight.again or Prompt.SCHEDULE
            self._ask_again(pending, answer, decision)
        else:
            self._store.note(Progress(pending.id, answer, pending.due, pending.errors))
            await self._end(flight, decision)

    def _put_back(self, flight: Flight) -> None:
        """It was not asked about."""
        if not flight.lost:
            flight.pending.due = self._timeline.schedule() + UNSENT_S
            self._turns.put(flight.pending)

    def _decide(self, flight: Flight, result: Result) -> Decision:
        pending = flight.pending
        age = self._timeline.run() - pending.opened_run
        jitter = self._clock.jitter()
        cadence = self.cadence if self.pace is None else self.pace.after(pending, result, age)
        decision = decide(result, age=age, errors=pending.errors, jitter=jitter, cadence=cadence)
        if isinstance(decision, End):
            return decision
        if pending.cancelling:
            return End(State.CANCELLED)
        if flight.again:
            return AskAgain(0.0, decision.errors)
        if isinstance(result, Unavailable) and self._turns.outage.is_open:
            return AskAgain(0.0, pending.errors)  # the platform's fault, not the order's
        return decision

    def _ask_again(self, pending: Pending, answer: Answer, decision: AskAgain) -> None:
        pending.due = self._timeline.schedule() + decision.pause
        pending.errors = decision.errors
        keep = decision.pause < KEPT_S and self._turns.has_room(pending.key.park_uuid, HELD_MAX // 2)
        self._store.note(Progress(pending.id, answer, pending.due, pending.errors, keep))
        if keep:
            self._turns.put(pending)
        elif decision.pause < KEPT_S:
            self._turns.leave_out(pending.due)

    async def _end(self, flight: Flight, decision: End) -> None:
        pending = flight.pending

        def ending(order: Order, at: datetime) -> Change | None:
            if order.state is State.PENDING:
                return end(order, decision.state, at, decision.payment)
            return _contradiction(order, decision.state, at)

        try:
            await self._ledger.change(pending.key, ending)
        except StoreUnavailableError:
            if flight.lost:
                return  # the others ask about it now
            # The platform will say the same again, and by then it may be possible to write it down.
            pending.due = self._timeline.schedule() + STORE_RETRY_S
            self._turns.put(pending)

    async def _compare(self, pending: Pending, result: Result, answer: Answer) -> None:
        """A final order was asked about on request: its state stays, a contradiction is told."""
        self._store.note(Progress(pending.id, answer, None, 0, keep=False))
        if isinstance(result, Settled):
            paid = result.paid
            with suppress(StoreUnavailableError):  # the ledger has said so; asking once more tells it again
                await self._ledger.change(pending.key, lambda order, at: contradict(order, paid, at))

    # What is said of it.

    def _observe(self, flight: Flight, result: Result) -> None:
        turn = self._turns.outage.observe(
            flight.pending.id,
            result,
            self._clock.monotonic(),
            orders=len(self._turns),
            canary=flight.canary,
            jitter=self._clock.jitter(),
        )
        tell_turn(turn, self._turns.outage, self._metrics, len(self._turns))

    def _log_polled(self, pending: Pending, result: Result, took: float, next_in: float | None) -> None:
        was_unclear, pending.unclear = pending.unclear, isinstance(result, Unclear)
        if was_unclear is pending.unclear and not is_debug():
            return
        reply = result.reply
        fields = {
            "code": reply.code if reply else None,
            "status": reply.status if reply else None,
            "seqno": reply.seqno if reply else None,
            "ms": round(took * 1000, 1),
            "next_in_s": None if next_in is None else round(next_in, 2),
        }
        log.debug("order.polled", **pending.key._asdict(), error=error_of(result), **fields)
        if isinstance(result, Unclear) and not was_unclear:  # the first in a row
            message, hint = (reply.message, reply.hint) if reply else (None, None)
            log.warning(
                "order.unclear", **pending.key._asdict(), error=result.error, message=message, hint=hint, **fields
            )


def tell_turn(turn: Turn, outage: Outage, metrics: Metrics, orders: int) -> None:
    """Log that the platform went down, or came back; `orders` are those in memory."""
    if turn is Turn.OPENED:
        metrics.platform_down()
        log.warning("platform.down", cause=outage.cause, orders=orders)
    elif turn is Turn.CLOSED:
        log.warning("platform.up", after_s=round(outage.lasted, 1), orders=orders)


def _contradiction(order: Order, state: State, at: datetime) -> Change | None:
    """What a reply that came in for an order which had ended meanwhile still has to say."""
    if state not in (State.PAID, State.FAILED):
        return None
    return contradict(order, state is State.PAID, at)


def _answer(result: Result, at: datetime, prompt: Prompt) -> Answer:
    reply, error = result.reply, error_of(result)
    if reply is None:
        return Answer(at, error=error, prompt=prompt)
    return Answer(at, reply.code, reply.message, reply.hint, reply.seqno, reply.status, error, prompt)
