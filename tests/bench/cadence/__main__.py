"""`python -m tests.bench.cadence`: the cadence beside the optimum and other people's, in three worlds."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.bench.cadence import print_table, run
from tests.bench.cadence.pictures import draw


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cadence", description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=0, help="of the jitter and of the orders that are learned from"
    )
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="write cadence-WORLD.svg into this folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures into this file")
    words = parser.parse_args()
    results = run(words.seed)
    print_table(results)
    if words.json is not None:
        words.json.write_text(json.dumps(results, allow_nan=False, indent=1) + "\n")
    if words.pictures is not None:
        draw(results, words.pictures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
