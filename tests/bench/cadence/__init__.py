"""Cadence on the frontier: news early and few queries, beside the best that any schedule could do.

Offline and in made-up worlds: `worlds` are how long payments take, `optimum` the yardstick, `schedules` what is
compared, `replay` what each costs and brings, `trial` the cadence learned from a lot's own orders.
"""

from tests.bench.cadence.comparison import run
from tests.bench.cadence.table import print_table

__all__ = ["print_table", "run"]
