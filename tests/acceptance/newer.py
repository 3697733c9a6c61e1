"""`python -m tests.acceptance.newer STEP… -- WORD…`: the program of a later release, with these steps more."""

from __future__ import annotations

import sys

from poller.cli import main
from poller.stores.postgres import schema
from poller.stores.postgres.schema import Builds, Contracts, Expands, Step

STEPS: dict[str, Step] = {
    "column": Expands(("ALTER TABLE orders ADD COLUMN colour text",)),
    "index": Builds("orders_accepted", "orders (accepted_at)"),
    "contracting": Contracts(("CREATE TABLE contracted ()",)),
}

if __name__ == "__main__":
    divider = sys.argv.index("--")
    schema.STEPS.extend(STEPS[name] for name in sys.argv[1:divider])
    main(sys.argv[divider + 1 :], prog_name="poller")
