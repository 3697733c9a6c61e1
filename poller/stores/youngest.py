"""How many of the youngest a claim of the freshest looks at, of all or of each lot: as many in both engines."""

FRESHEST_OF = 20_000
LEAST_OF_LOT = 100  # however many lots are named


def looked_at(lots: int) -> int:
    """How many of the youngest of each of so many lots are looked at."""
    return max(FRESHEST_OF // max(lots, 1), LEAST_OF_LOT)
