"""Who is held: in memory alone, since a store has one daemon, and a daemon that died holds nothing."""

from __future__ import annotations

from collections.abc import Collection

from poller.stores.journal import Journal

START = (float("-inf"), 0)


class OrderHolds:
    """Held orders, and how far the schedule is held without a gap.

    `cursor` is a (due, id): every pending order at or below it is held, so `claim` need not look there again.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._held: set[int] = set()
        self.cursor = START

    def __contains__(self, order_id: int) -> bool:
        return order_id in self._held

    def hold(self, order_id: int) -> bool:
        """Hold an order; False where it was held already."""
        if order_id in self._held:
            return False
        self._held.add(order_id)
        self._journal.add(lambda: self._held.discard(order_id))
        return True

    def hold_new(self, order_ids: Collection[int]) -> None:
        """Hold orders that nobody can have held."""
        self._held.update(order_ids)
        self._journal.add(lambda: self._held.difference_update(order_ids))

    def release(self, order_id: int) -> None:
        """Hold it no more. Where it is pending, `reveal` it too."""
        if order_id in self._held:
            self._held.discard(order_id)
            self._journal.add(lambda: self._held.add(order_id))

    def reveal(self, order_id: int, due: float) -> None:
        """A pending order that nobody holds is due then: `claim` must find it."""
        self.cursor = min(self.cursor, (due, order_id - 1))

    def advance(self, order_id: int, due: float) -> None:
        """Everything up to this order of the schedule is held."""
        if self.cursor < (due, order_id):
            self.cursor = (due, order_id)
            self._journal.add(self._rewind)

    def _rewind(self) -> None:
        self.cursor = START  # one look from the start is cheap, and undoing is rare


class DeliveryHolds:
    """Deliveries under way, and the orders whose notices they are; notices that are about to be logged."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._held: dict[int, int] = {}
        self._telling: set[int] = set()

    def __contains__(self, delivery_id: int) -> bool:
        return delivery_id in self._held

    def busy_orders(self) -> set[int]:
        """The orders of which a notice is under way."""
        return set(self._held.values())

    def hold(self, delivery_id: int, order_id: int) -> None:
        """Hold a delivery that nobody holds."""
        self._held[delivery_id] = order_id
        self._journal.add(lambda: self._drop(delivery_id))

    def tell(self, notice_id: int) -> None:
        """A new notice is about to be logged."""
        self._telling.add(notice_id)
        self._journal.add(lambda: self._telling.discard(notice_id))

    def tells(self, notice_id: int) -> bool:
        """Whether a notice is about to be logged."""
        return notice_id in self._telling

    def told(self, notice_id: int) -> None:
        """A notice has been logged, or will not be by who was about to."""
        if notice_id in self._telling:
            self._telling.discard(notice_id)
            self._journal.add(lambda: self._telling.add(notice_id))

    def release(self, delivery_id: int) -> None:
        """Give a delivery back, held or not."""
        order_id = self._held.pop(delivery_id, None)
        if order_id is not None:
            held_for = order_id
            self._journal.add(lambda: self._held.__setitem__(delivery_id, held_for))

    def _drop(self, delivery_id: int) -> None:
        self._held.pop(delivery_id, None)
