"""The README's examples for the integrator, taken from its text and run as programs of their own."""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.processes import PARK, Process

README = Path(__file__).parents[2] / "README.md"
_BLOCK = re.compile(r"^```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Example:
    """An example by the name of its file, which stands in its first two lines, and what it takes to run it."""

    file: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()

    def skip_unless_runnable(self) -> None:
        missing = [program for program in self.needs if shutil.which(program) is None]
        if missing:
            pytest.skip(f"README's {self.file} is NOT TESTED: {', '.join(missing)} is not installed here")

    async def run(self, folder: Path, *words: str, **settings: str) -> Process:
        """Start it in `folder`, as the README says, with these settings in its environment."""
        file = folder / self.file
        if not file.exists():  # a second run must not empty it under the first
            file.write_text(text_of(self.file))
        return await Process.launch(*self.command, self.file, *words, env=environment(**settings), cwd=folder)


SHELL = Example("exit-lane.sh", ("sh",), ("curl", "jq"))
CALLBACK = Example("forward-callback.sh", ("sh",), ("curl",))
PYTHON = Example("exit_lane.py", (sys.executable,))
PYTHON_RECEIVER = Example("receiver.py", (sys.executable,))
JAVA = Example("Lane.java", ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"), ("java", "javac"))


def text_of(file: str) -> str:
    """The one block of the README whose first two lines name the file."""
    blocks = _BLOCK.findall(README.read_text("utf-8"))
    found = [block for block in blocks if file in "\n".join(block.split("\n")[:2])]
    assert len(found) == 1, f"README has {len(found)} blocks of {file}"
    return str(found[0])


def environment(**settings: str) -> dict[str, str]:
    """These settings, the lot, and a proxy that nobody listens on: requests to loopback must not care."""
    return {**os.environ, "PARK": PARK, "http_proxy": "http://127.0.0.1:9", **settings}
