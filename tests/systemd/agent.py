"""Runs inside a virtual machine: performs the commands that come in over its first port, one after the other.

A command and its outcome are a line of JSON each. Only the standard library; copied into the machine as it is.
"""

from __future__ import annotations

import json
import os
import subprocess
import time

PORT = "/dev/vport0p1"
PATIENCE_S = 100


def perform(request: dict[str, object]) -> dict[str, object]:
    """The outcome of a command: its status, what it wrote, and what it wrote of its troubles."""
    try:
        done = subprocess.run(
            request["words"],  # type: ignore[call-overload]
            input=request["stdin"],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env={**os.environ, "LANG": "C.UTF-8", "HOME": "/root"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"status": 127, "out": "", "err": str(error)}
    return {"status": done.returncode, "out": done.stdout, "err": done.stderr}


def main() -> None:
    port = os.open(PORT, os.O_RDWR)
    with os.fdopen(port, "rb") as requests, os.fdopen(os.dup(port), "wb") as outcomes:
        while True:
            line = requests.readline()
            if line:
                outcomes.write(json.dumps(perform(json.loads(line))).encode() + b"\n")
                outcomes.flush()
            else:
                time.sleep(0.1)  # nobody is at the other end yet


if __name__ == "__main__":
    main()
