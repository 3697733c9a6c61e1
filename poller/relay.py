"""The relay: every notice to the log, and to the webhook until it is received or dead.

The log is a receiver like the webhook: a notice's line is written at least once, with the same event id.
"""

from __future__ import annotations

import asyncio

import msgspec
import structlog

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
from poller.ledger import Bell, Ledger
from poller.ports import Attempt, Clock, Delivery, Notice, Receiver, Store, StoreUnavailableError
from poller.timeline import Timeline

PLACES = 16  # deliveries under way at once
PAGE = 500  # notices logged at a time
STORE_RETRY_S = 2.0

log = structlog.get_logger()


class Relay:
    """`receiver` is None where no webhook is configured: then there is only the log."""

    def __init__(
        self,
        *,
        store: Store,
        ledger: Ledger,
        clock: Clock,
        timeline: Timeline,
        receiver: Receiver | None,
        give_up_after: float,
    ) -> None:
        self._store = store
        self._clock = clock
        self._timeline = timeline
        self._receiver = receiver
        self._give_up_after = give_up_after
        self._under_way = 0
        self._failing = False  # the last answer of the receiver was a failure
        self._stopping = False
        self._log_bell = Bell()
        self._send_bell = Bell()
        ledger.add_bell(self._log_bell)
        ledger.add_bell(self._send_bell)

    def configure(self, receiver: Receiver | None, give_up_after: float) -> None:
        """Take new settings over."""
        self._receiver, self._give_up_after = receiver, give_up_after
        self._send_bell.ring()

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
            stopping = self._stopping
            pause = None
            try:
                while notices := await self._store.unlogged(PAGE):
                    for notice in notices:
                        _log_notice(notice)
                    self._store.note_logged([notice.id for notice in notices])
            except StoreUnavailableError as error:
                log.error("store.unavailable", error=str(error), while_doing="logging notices")
                pause = STORE_RETRY_S
            if stopping:
                return
            await self._log_bell.wait(pause)

    async def _send_all(self) -> None:
        async with asyncio.TaskGroup() as group:
            while not self._stopping:
                try:
                    pause = await self._start_due(group)
                except StoreUnavailableError as error:
                    log.error("store.unavailable", error=str(error), while_doing="looking for notices to send")
                    pause = STORE_RETRY_S
                await self._send_bell.wait(pause)

    async def _start_due(self, group: asyncio.TaskGroup) -> float | None:
        """Start what is due as far as there are places; returns the seconds to wait, None for a ring."""
        receiver = self._receiver
        if receiver is None or self._under_way >= PLACES:
            return None
        due = await self._store.claim_deliveries(self._timeline.schedule(), PLACES - self._under_way)
        for delivery in due:
            self._under_way += 1
            group.create_task(self._deliver(receiver, delivery))
        if self._under_way >= PLACES:
            return None
        following = await self._store.next_delivery()
        return None if following is None else self._timeline.until(following)

    async def _deliver(self, receiver: Receiver, delivery: Delivery) -> None:
        notice = delivery.notice
        try:
            answer = await receiver.send(notice.event_id, notice.body)
            decision = decide_delivery(
                answer,
                attempts=delivery.attempts + 1,
                age=self._timeline.run() - notice.made_run,
                jitter=self._clock.jitter(),
                give_up_after=self._give_up_after,
            )
            self._tell(notice, answer, decision)
            await self._record(self._attempt(notice, answer, decision))
        finally:
            self._under_way -= 1
            self._send_bell.ring()

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
                log.error("store.unavailable", error=str(error), while_doing="recording a delivery")
                if self._stopping:
                    return  # it will be sent again, under the same id
                await asyncio.sleep(STORE_RETRY_S)
            else:
                return

    def _tell(self, notice: Notice, answer: ReceiverAnswer, decision: DeliveryDecision) -> None:
        fields = {"event_id": notice.event_id, "type": notice.type.value, "status": answer.status, **_name(notice)}
        match decision:
            case Delivered():
                log.debug("delivery.sent", **fields)
                if self._failing:
                    log.info("delivery.recovered", **fields)
                self._failing = False
            case TryAgain(pause=pause):
                error = answer.error if isinstance(answer, NotReceived) else None
                if not self._failing:
                    log.warning("delivery.failed", error=error, next_in_s=round(pause, 1), **fields)
                self._failing = True
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


def _name(notice: Notice) -> dict[str, str]:
    return {"park_uuid": notice.key.park_uuid, "pay_partner": notice.key.pay_partner}
