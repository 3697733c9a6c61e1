"""Runs inside a virtual machine: hands orders in until its power is cut, and tells of each that is acknowledged.

The number goes out through the machine's second port, and, to check that the cut takes what is not on disk, into
a SQLite database that commits without waiting for the disk. Copied into the machine as it is.
"""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
import sys
from http.client import HTTPConnection

PORT = "/dev/vport0p2"
DATABASE = "/root/acknowledged.db"


def main(kinds: list[str]) -> None:
    """`kinds` are the beginnings of the numbers, taken in turn."""
    database = sqlite3.connect(DATABASE, isolation_level=None)
    database.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; CREATE TABLE seen (number)")
    os.sync()
    intake = HTTPConnection("127.0.0.1", 8710, timeout=60)
    port = os.open(PORT, os.O_WRONLY)
    for at in itertools.count():
        number = f"{kinds[at % len(kinds)]}-{at}"
        order = json.dumps({"pay_partner": number})
        intake.request("POST", "/v1/orders", order, {"Content-Type": "application/json"})
        answer = intake.getresponse()
        said = answer.read()
        if answer.status != 201:
            sys.exit(f"{number}: {answer.status} {said!r}")
        os.write(port, f"{number}\n".encode())
        database.execute("INSERT INTO seen VALUES (?)", (number,))


if __name__ == "__main__":
    main(sys.argv[1:])
