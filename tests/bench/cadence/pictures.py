"""The frontier in pictures: delay against queries for an order, one SVG for each world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "poller-cadence",  # the same figures make the same file
    "svg.fonttype": "none",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
TICKS = tuple(step * 10.0**power for power in range(-1, 5) for step in (1, 2, 5))
PANELS = (("mean", "mean, all orders"), ("waiting", "mean, orders under 60 s"), ("p99", "99th percentile"))
CURVES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("optimum", "optimum, all orders", {"color": "#111111", "lw": 1.8}),
    ("optimum waiting", "optimum, orders under 60 s", {"color": "#111111", "lw": 1.2, "ls": (0, (4, 2))}),
    ("learned", "learned, 200 orders known", {"color": "#1a7f37", "lw": 1.8}),
    ("proportional", "proportional, by fraction", {"color": "#1f5fbf", "lw": 1.8}),
    ("doubling", "doubling, by first gap", {"color": "#b35900", "lw": 1.2}),
    ("grid", "even grid, by step", {"color": "#8a8a8a", "lw": 1.2}),
)
POINTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("poller", "poller, as it comes", {"marker": "o", "color": "#1f5fbf"}),
    ("every 5 s", "every 5 s", {"marker": "o", "color": "#8a8a8a"}),
    ("doubling from 1 s", "doubling from 1 s", {"marker": "o", "color": "#b35900"}),
    ("jeepay", "jeepay", {"marker": "s", "color": "#7a3fa0"}),
    ("roncoo-pay", "roncoo-pay", {"marker": "^", "color": "#c2185b"}),
    ("hyperswitch", "hyperswitch", {"marker": "D", "color": "#00838f"}),
)


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    """Write `cadence-WORLD.svg` for each world into the folder; the same results give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for place in results["worlds"]:
        with mpl.rc_context(STYLE):
            written.append(folder / f"cadence-{place['name']}.svg")
            _figure(place).savefig(written[-1], format="svg", metadata={"Date": None, "Creator": None})
    return written


def _figure(place: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(11.0, 4.6), layout="constrained")
    panels = figure.subplots(1, len(PANELS))
    for axes, (name, title) in zip(panels, PANELS, strict=True):
        _panel(axes, place, name, title)
    panels[0].set_ylabel("delay of the news, seconds")
    figure.suptitle(f"{place['name']}: {place['words']}", x=0.01, ha="left")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _panel(axes: Axes, place: dict[str, Any], figure: str, title: str) -> None:
    curves = {**place["curves"], "learned": place["learned"]["curve"]}
    for name, label, style in CURVES:
        points = sorted((one["queries"], one[figure]) for one in curves[name] if one[figure] is not None)
        axes.plot([queries for queries, _ in points], [delay for _, delay in points], label=label, **style)
    rows = {row["name"]: row for row in place["schedules"]}
    for name, label, style in POINTS:
        row = rows[name]
        losing = row["lost"] > 0.0
        shown = f"{label}, loses {row['lost']:.1%}" if losing else label
        filled: dict[str, Any] = (
            {"facecolors": "none", "edgecolors": style["color"]} if losing else {"color": style["color"]}
        )
        delay = [] if row[figure] is None else [row[figure]]
        axes.scatter(
            [row["queries"]] * len(delay), delay, marker=style["marker"], s=34, zorder=3, label=shown, **filled
        )
    axes.set(xscale="log", yscale="log", title=title, xlabel="queries for an order, mean")
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        within = [value for value in TICKS if low <= value <= high]
        axis.set_ticks(within if len(within) <= 8 else [value for value in within if value in TICKS[::3]])
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.25, which="major")
