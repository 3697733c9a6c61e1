"""Each figure that has a target as a bar: how much of the target it takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Picture

from tests.bench.figures import Figure

STYLE: dict[Any, Any] = {"svg.hashsalt": "poller-bench", "svg.fonttype": "none", "font.size": 9.0}
MET, MISSED = "#1a7f37", "#b35900"
LONGEST = 3.0  # what passes its target by more is cut off there


def draw(figures: Sequence[Figure], folder: Path) -> Path:
    """Write `targets.svg`; the same figures make the same file."""
    rows = [(figure, used_of(figure)) for figure in figures if figure.target is not None]
    with mpl.rc_context(STYLE):
        picture = Picture(figsize=(9.0, 0.28 * len(rows) + 0.8), layout="constrained")
        axes = picture.add_subplot()
        axes.barh(
            [f"{figure.scenario}: {figure.name}" for figure, _ in rows],
            [min(used, LONGEST) for _, used in rows],
            color=[MET if figure.is_met else MISSED for figure, _ in rows],
        )
        axes.axvline(1.0, color="#111111", lw=1.0)
        axes.set_xlabel("of its target (left of the line is better)")
        axes.set_xlim(0.0, LONGEST)
        axes.invert_yaxis()
        path = folder / "targets.svg"
        picture.savefig(path, metadata={"Date": None})
    return path


def used_of(figure: Figure) -> float:
    """How much of its target a figure takes: 1 is just met, less is better."""
    assert figure.target is not None
    comparison, goal = figure.target
    part, whole = (figure.value, goal) if comparison == "≤" else (goal, figure.value)
    if whole == 0.0:
        return 0.0 if part == 0.0 else float("inf")
    return part / whole
