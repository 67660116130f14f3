"""Draws results.json; run in the yardsticks' environment: `python -m bench.plot IN OUT`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_OURS, _THEIRS, _FLOOR = "#1f6f8b", "#b8c4cc", "#c0392b"

#: Title, unit's floor, and the bars from the top.
_PANELS: tuple[tuple[str, float | None, tuple[tuple[str, str], ...]], ...] = (
    (
        "accepted a second over HTTP",
        1_200,
        (("CSecBridge", "post_per_s"), ("Celery behind Flask", "celery_post_per_s")),
    ),
    (
        "drained a second",
        6_000,
        (
            ("CSecBridge", "drain_per_s"),
            ("PgQueuer", "pgqueuer_drain_per_s"),
            ("Huey (not durable)", "huey_drain_per_s"),
            ("Celery", "celery_drain_per_s"),
        ),
    ),
    (
        "whole line saturated, finished a second",
        900,
        (
            ("CSecBridge", "line_finished_per_s"),
            ("Celery behind Flask", "celery_line_finished_per_s"),
        ),
    ),
    (
        "GET a second",
        None,
        (
            ("cached", "hit_per_s"),
            ("not cached", "miss_per_s"),
            ("bare Flask route", "bare_flask_per_s"),
        ),
    ),
    (
        "POST to end at 50/s, ms",
        None,
        (("p50", "to_end_ms_p50"), ("p95", "to_end_ms_p95"), ("p99", "to_end_ms_p99")),
    ),
    (
        "with a long history in the tables, % of without",
        85,
        (
            ("POST", "post_per_s"),
            ("drained", "drain_per_s"),
            ("line", "line_finished_per_s"),
            ("GET, not cached", "miss_per_s"),
        ),
    ),
)


def draw(document: dict[str, Any], path: Path) -> None:
    """Write the plot; the same results give the same bytes."""
    mpl.rcParams.update({"svg.hashsalt": "bench", "font.size": 9, "svg.fonttype": "none"})
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    axes = figure.subplots(3, 2)
    for panel, (title, floor, bars) in zip(axes.flat, _PANELS, strict=True):
        figures = _relative(document) if floor == 85 else document["figures"]
        present = [(label, figures[name]) for label, name in bars if name in figures]
        _bars(panel, title, floor, present)
    figure.savefig(path, metadata={"Date": None})


def _bars(
    panel: Axes, title: str, floor: float | None, bars: list[tuple[str, dict[str, Any]]]
) -> None:
    panel.set_title(title, loc="left", fontsize=9)
    for place, (label, figure) in enumerate(bars):
        rounds, middle = figure["rounds"], figure["median"]
        spread = [[middle - min(rounds)], [max(rounds) - middle]]
        foreign = label in ("Celery", "Celery behind Flask", "PgQueuer", "bare Flask route")
        color = _THEIRS if foreign or label.startswith("Huey") else _OURS
        panel.barh(place, middle, color=color, xerr=spread, ecolor="#555", capsize=2)
        panel.annotate(
            f" {middle:,.0f}" if middle >= 100 else f" {middle:.1f}",
            (max(rounds), place),
            va="center",
            fontsize=8,
        )
    panel.set_yticks(range(len(bars)), [label for label, _ in bars])
    panel.invert_yaxis()
    panel.margins(x=0.15)
    panel.spines[["top", "right"]].set_visible(False)
    if floor is not None and bars:
        panel.axvline(floor, color=_FLOOR, linewidth=1, linestyle=":")


def _relative(document: dict[str, Any]) -> dict[str, Any]:
    """Each figure with history as a percentage of the one without, round by round."""
    figures, found = document["figures"], {}
    for name, old in figures.items():
        young = figures.get(name.removeprefix("history: "))
        if name.startswith("history: ") and young:
            pairs = zip(old["rounds"], young["rounds"], strict=True)
            rounds = sorted(o / y * 100 for o, y in pairs if y)
            middle = rounds[len(rounds) // 2]
            found[name.removeprefix("history: ")] = {"median": middle, "rounds": rounds}
    return found


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
