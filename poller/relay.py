"""The relay: every notice to the log, and to the webhook until it is received or dead.

The log is a receiver like the webhook: a notice's line is written at least once, with the same event id.
"""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from poller.bell import Bell
from poller.core.delivery import (
    Dead,
    Delivered,
    DeliveryDecision,
    DeliveryState,
    NotReceived,
    ReceiverAnswer,
    TryAgain,
    decide_delivery,
)
from poller.core.orders import NoticeType
from poller.core.receiver_health import ReceiverHealth
from poller.liveness import Liveness
from poller.metrics import Metrics
from poller.ports import (
    Alone,
    Attempt,
    Clock,
    Delivery,
    Lease,
    Notice,
    Receiver,
    Recorded,
    Store,
    StoreUnavailableError,
)
from poller.timeline import Timeline
from poller.trouble import StoreTrouble

PLACES = 16  # deliveries under way at once
PAGE = 500  # notices logged at a time
GATHER_S = 0.02  # so long notices gather for the log: under load, reading each alone costs more than its line
FORWARD = 200  # waiting notices brought forward at a time, once the receiver is back
STORE_RETRY_S = 2.0
UNSURE_S = 0.2  # how soon to look again whether the lease still holds

log = structlog.get_logger()


class Relay:
    """Tells at once of what the store hands over when an order changes, and looks into it for everything else.

    `receiver` is None where no webhook is configured: then there is only the log.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        timeline: Timeline,
        liveness: Liveness,
        trouble: StoreTrouble,
        metrics: Metrics,
        receiver: Receiver | None,
        give_up_after: float,
        lease: Lease | None = None,
    ) -> None:
        self._store = store
        self._lease = lease or Alone()
        self._losses = 0  # of the lease; what was under way before one counts for nothing
        self._clock = clock
        self._timeline = timeline
        self._liveness = liveness
        self._trouble = trouble
        self._metrics = metrics
        self._receiver = receiver
        self._give_up_after = give_up_after
        self._under_way = 0
        self._reserved = 0  # places for notices that are being made
        self._sending: asyncio.TaskGroup | None = None
        self._freshest_first = False  # whose turn the odd place is
        self._health = ReceiverHealth()
        self._stopping = False
        self._log_bell = Bell()
        self._send_bell = Bell()

    def configure(self, receiver: Receiver | None, give_up_after: float) -> None:
        """Take new settings over. What waits is tried at once where the receiver is another one."""
        if receiver is not self._receiver:
            self._health = ReceiverHealth(answers=True)
        self._receiver, self._give_up_after = receiver, give_up_after
        self._send_bell.ring()

    def forget_all(self) -> None:
        """The lease was lost: whatever is under way is the others' now, or claimed anew."""
        self._losses += 1
        self._send_bell.ring()

    def look_again(self) -> None:
        """There may be notices in the store to tell of."""
        self._log_bell.ring()
        self._send_bell.ring()

    def reserve(self) -> bool:
        """Keep a place for sending a notice that is about to be made; False where it has to wait its turn."""
        if self._receiver is None or self._sending is None or self._stopping:
            return False
        if self._under_way + self._reserved >= PLACES or not self._has_all():
            return False
        self._reserved += 1
        return True

    def release(self) -> None:
        """Let go of a place, after `take`; another notice may have passed for the one that it was kept for."""
        was_full = self._under_way + self._reserved >= PLACES
        self._reserved -= 1
        if was_full or not self._has_all():
            self._send_bell.ring()

    def take(self, recorded: Recorded) -> None:
        """Tell of what is handed over, and look into the store for what is not."""
        if recorded.notice is None:
            self._log_bell.ring()
        else:
            _log_notice(recorded.notice)
            self._store.note_logged([recorded.notice.id])
        if recorded.delivery is None:
            self._send_bell.ring()
        elif self._sending is None or self._receiver is None or self._stopping:  # since a place was kept
            self._store.give_back_deliveries([recorded.delivery.notice.id])
        else:
            self._send(self._sending, self._receiver, recorded.delivery)

    def stop(self) -> None:
        """Start no more deliveries; `run` returns once those under way have ended and the log is complete."""
        self._stopping = True
        self._log_bell.ring()
        self._send_bell.ring()

    async def run(self) -> None:
        """Runs until `stop`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._log_all())
            group.create_task(self._send_all())

    async def _log_all(self) -> None:
        while True:
            self._liveness.turn("log of notices")
            stopping = self._stopping
            pause = None
            try:
                while await self._log_some() == PAGE:
                    pass
            except StoreUnavailableError as error:
                self._trouble.met(error, "logging notices")
                pause = STORE_RETRY_S
            if stopping:
                return
            await self._log_bell.wait(pause)
            if not self._stopping:
                await asyncio.sleep(GATHER_S)

    async def _log_some(self) -> int:
        """How many that were; fewer than a page were all."""
        notices = await self._store.unlogged(PAGE)
        for notice in notices:
            _log_notice(notice)
        self._store.note_logged([notice.id for notice in notices])
        return len(notices)

    async def _send_all(self) -> None:
        async with asyncio.TaskGroup() as group:
            self._sending = group
            while not self._stopping:
                self._liveness.turn("relay")
                try:
                    pause = await self._start_due(group)
                except StoreUnavailableError as error:
                    self._trouble.met(error, "looking for notices to send")
                    pause = STORE_RETRY_S
                await self._send_bell.wait(pause)

    async def _start_due(self, group: asyncio.TaskGroup) -> float | None:
        """Start what is due as far as there are places; returns the seconds to wait, None for a ring."""
        receiver = self._receiver
        if receiver is None:
            return None
        while self._under_way + self._reserved < PLACES and not self._has_all():
            if await self._start_some(group, receiver) or await self._bring_forward() or self._has_all():
                continue
            following = await self._store.next_delivery()
            return None if following is None else self._timeline.until(following)
        if not self._reserved and self._has_all():
            self._health.waiting = False
        return None

    def _has_all(self) -> bool:
        """Whether every notice that is to be sent is, or is about to be, under way, as far as memory knows."""
        undelivered = self._store.undelivered()
        return undelivered is not None and undelivered <= self._under_way + self._reserved

    async def _start_some(self, group: asyncio.TaskGroup, receiver: Receiver) -> bool:
        """One half the freshest, whose drivers are the ones at the barrier, one half the longest due.

        True where more may be due.
        """
        freshest = self._freshest_first = not self._freshest_first
        half = (PLACES - self._under_way - self._reserved + 1) // 2
        if await self._start(group, receiver, half, freshest=freshest) < half:
            return False
        rest = PLACES - self._under_way - self._reserved
        return rest <= 0 or await self._start(group, receiver, rest, freshest=not freshest) == rest

    async def _start(self, group: asyncio.TaskGroup, receiver: Receiver, limit: int, *, freshest: bool) -> int:
        due = await self._store.claim_deliveries(self._timeline.schedule(), limit, freshest=freshest)
        for delivery in due:
            self._send(group, receiver, delivery)
        return len(due)

    def _send(self, group: asyncio.TaskGroup, receiver: Receiver, delivery: Delivery) -> None:
        self._under_way += 1
        group.create_task(self._deliver(receiver, delivery))

    async def _bring_forward(self) -> bool:
        """Once the receiver is back, let no notice sit out the pause that the outage brought it."""
        health = self._health
        if not health.answers or not health.waiting:
            return False
        health.before = await self._store.bring_deliveries_forward(
            self._timeline.schedule(), FORWARD, health.before
        )
        health.waiting = health.before is not None
        return True

    async def _deliver(self, receiver: Receiver, delivery: Delivery) -> None:
        notice, losses = delivery.notice, self._losses
        try:
            if not await self._still_holds(losses):
                return
            answer = await receiver.send(notice.event_id, notice.body)
            decision = decide_delivery(
                answer,
                attempts=delivery.attempts + 1,
                age=self._timeline.run() - notice.made_run,
                jitter=self._clock.jitter(),
                give_up_after=self._give_up_after,
            )
            self._metrics.tried(decision)
            self._tell(notice, answer, decision)
            if losses == self._losses:
                await self._record(self._attempt(notice, answer, decision))
        finally:
            self._under_way -= 1
            self._send_bell.ring()

    async def _still_holds(self, losses: int) -> bool:
        """Whether a delivery may be sent: wait while that is not sure; False once it is lost, or at a stop."""
        while not self._lease.holds() and losses == self._losses:
            if self._stopping:
                return False
            await asyncio.sleep(UNSURE_S)
        return losses == self._losses

    def _attempt(self, notice: Notice, answer: ReceiverAnswer, decision: DeliveryDecision) -> Attempt:
        at = self._clock.wall()
        error = answer.error if isinstance(answer, NotReceived) else None
        match decision:
            case Delivered():
                return Attempt(notice.id, DeliveryState.DELIVERED, at, status=answer.status)
            case TryAgain(pause=pause):
                due = self._timeline.schedule() + pause
                return Attempt(notice.id, DeliveryState.PENDING, at, due, error, answer.status)
            case Dead(why=why):
                return Attempt(notice.id, DeliveryState.DEAD, at, None, why, answer.status)

    async def _record(self, attempt: Attempt) -> None:
        """Write an attempt down, however long the store refuses: only then may the next one start."""
        while True:
            try:
                await self._store.record_attempt(attempt)
            except StoreUnavailableError as error:
                self._trouble.met(error, "recording a delivery")
                if self._stopping:
                    return  # it will be sent again, under the same id
                await asyncio.sleep(STORE_RETRY_S)
            else:
                return

    def _tell(self, notice: Notice, answer: ReceiverAnswer, decision: DeliveryDecision) -> None:
        fields = {
            "event_id": notice.event_id,
            "type": notice.type.value,
            "status": answer.status,
            **notice.key._asdict(),
        }
        match decision:
            case Delivered():
                log.debug("delivery.sent", **fields)
                if self._health.recover(self._timeline.run()):
                    log.info("delivery.recovered", **fields)
            case TryAgain(pause=pause):
                error = answer.error if isinstance(answer, NotReceived) else None
                if self._health.fail(self._timeline.run()):
                    log.warning("delivery.failed", error=error, next_in_s=round(pause, 1), **fields)
            case Dead(why=why):
                log.error("delivery.dead", error=why, **fields)


def _log_notice(notice: Notice) -> None:
    data: dict[str, object] = msgspec.json.decode(notice.body)["data"]
    data.pop("last_reply")
    match notice.type:
        case NoticeType.UNDECIDED:
            log.warning("order.undecided", event_id=notice.event_id, **data)
        case NoticeType.CONFLICT:
            log.error("order.conflict", event_id=notice.event_id, **data)
        case _:
            log.info("order.final", event_id=notice.event_id, **data)
