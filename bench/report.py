"""Writes what was found: results.json for machines, a table for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.floors import AGEING, Floor, ageing, judge
from bench.rounds import OLD, Results
from bench.sizes import Sizes

#: The rows of the table: what is said, our figure, and those beside it.
_ROWS: Final = (
    ("POST accepted/s", "post_per_s", ("celery_post_per_s", "pgbench_insert_per_s")),
    ("POST of many, requests/s", "batch_requests_per_s", ()),
    ("drained/s", "drain_per_s", (
        "celery_drain_per_s", "pgqueuer_drain_per_s", "huey_drain_per_s",
        "pgbench_claim_finish_per_s")),
    ("whole line saturated, finished/s", "line_finished_per_s", ("celery_line_finished_per_s",)),
    ("GET hit/s", "hit_per_s", ("bare_flask_per_s", "bare_flask_silent_per_s")),
    ("GET miss/s", "miss_per_s", ("bare_flask_per_s",)),
    ("POST to end at 50/s, p50 ms", "to_end_ms_p50", ()),
    ("POST to end at 50/s, p95 ms", "to_end_ms_p95", ()),
    ("POST to end at 50/s, p99 ms", "to_end_ms_p99", ()),
    ("... as a long poll tells it, p50 ms", "seen_ms_p50", ()),
    ("... as a long poll tells it, p99 ms", "seen_ms_p99", ()),
    ("another tenant's request alone, p99 ms", "fair_quick_alone_ms_p99", ()),
    ("... beside a flood, p99 ms", "fair_quick_beside_ms_p99", ()),
    ("... alone, actions of 50 ms, p99 ms", "fair_slow_alone_ms_p99", ()),
    ("... beside a flood, actions of 50 ms, p99 ms", "fair_slow_beside_ms_p99", ()),
    ("recovery after kill -9, p50 s", "recovery_s_p50", ()),
    ("recovery after kill -9, p99 s", "recovery_s_p99", ()),
    ("input to result with a ready jail, p50 ms", "hand_over_ms_p50", (
        "python_cold_ms_p50", "bwrap_cold_ms_p50", "docker_cold_ms_p50")),
    ("input to result with a ready jail, p99 ms", "hand_over_ms_p99", (
        "python_cold_ms_p99", "bwrap_cold_ms_p99", "docker_cold_ms_p99")),
    ("executions/s, each in a fresh jail", "executions_per_second", (
        "python_cold_per_second", "bwrap_cold_per_second", "docker_cold_per_second")),
    ("... end to end over HTTP", "executed_per_s", ()),
    ("memory of a waiting jail, MiB", "waiting_jail_pss_mib", ()),
    ("enqueued/s without HTTP", "", ("pgqueuer_enqueue_per_s", "huey_enqueue_per_s")),
)  # fmt: skip

_BESIDE: Final = {
    "celery_post_per_s": "Celery behind Flask",
    "celery_drain_per_s": "Celery",
    "celery_line_finished_per_s": "Celery behind Flask",
    "pgqueuer_drain_per_s": "PgQueuer",
    "pgqueuer_enqueue_per_s": "PgQueuer",
    "huey_drain_per_s": "Huey",
    "huey_enqueue_per_s": "Huey",
    "pgbench_insert_per_s": "pgbench, two bare inserts",
    "pgbench_claim_finish_per_s": "pgbench, bare claim + end",
    **{
        f"{side}_{figure}": said
        for side, said in (
            ("python_cold", "python3 -I, no jail, cold"),
            ("bwrap_cold", "bubblewrap, cold"),
            ("docker_cold", "docker run"),
        )
        for figure in ("ms_p50", "ms_p99", "per_second")
    },
    "bare_flask_per_s": "bare Flask route, with access lines",
    "bare_flask_silent_per_s": "without",
}

_METHOD: Final = Path(__file__).with_name("method.md")
_BEGIN: Final = "<!-- begin bench -->"
_END: Final = "<!-- end bench -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A finished run."""

    results: Results
    sizes: Sizes
    machine: dict[str, Any]
    versions: dict[str, str]

    def document(self) -> dict[str, Any]:
        """Everything, every round of it."""
        return {
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": self.machine,
            "versions": self.versions,
            "sizes": asdict(self.sizes),
            "figures": {name: _summed(values) for name, values in self.results.figures.items()},
            "cpu_microseconds": {
                unit: {component: _summed(values) for component, values in spent.items()}
                for unit, spent in self.results.cpu.items()
            },
            "failures": self.results.failures,
            "floors": [asdict(floor) for floor in judge(self.results)],
        }

    def write(self, folder: Path) -> Path:
        """Write results.json into the folder."""
        path = folder / "results.json"
        path.write_text(json.dumps(self.document(), indent=1) + "\n")
        return path

    def table(self) -> str:
        """The figures beside the yardsticks, in Markdown."""
        return "\n".join(self._table()) + "\n"

    def _table(self) -> Iterator[str]:
        with_history = any(name.startswith(OLD) for name in self.results.figures)
        told = (
            f" With {self.sizes.history:,} ended requests (change, in the middle of the rounds) |"
        )
        more = told if with_history else ""
        yield f"| | CSecBridge |{more} Beside it |"
        yield "|---|---|" + ("---|" if with_history else "") + "---|"
        for said, name, others in _ROWS:
            ours = self._cell(name)
            beside = "; ".join(
                f"{_BESIDE[other]} {cell}" for other in others if (cell := self._cell(other)) != "-"
            )
            if ours == "-" and not beside:
                continue
            aged = f" {self._aged(name)} |" if with_history else ""
            yield f"| {said} | {f'**{ours}**' if name else ''} |{aged} {beside} |"

    def _cell(self, name: str) -> str:
        values = self.results.figures.get(name)
        return "-" if not values else _shown(median(values))

    def _aged(self, name: str) -> str:
        lost = ageing(self.results, name) if name in AGEING else None
        if lost is None:
            return ""
        change = -lost if AGEING[name] == "more" else lost
        return f"{self._cell(OLD + name)} ({change:+.0%})"

    def processor(self) -> str:
        """Microseconds of processor time a unit of work, by component, in Markdown."""
        lines = ["| a unit of | all | of it |", "|---|---|---|"]
        for unit, spent in self.results.cpu.items():
            parts = {name: median(values) for name, values in spent.items()}
            told = ", ".join(f"{name} {micros:,.0f}" for name, micros in parts.items())
            lines.append(f"| {unit} | {sum(parts.values()):,.0f} | {told} |")
        return "\n".join(lines) + "\n"

    def floors(self) -> str:
        """What was asked for, in Markdown."""
        lines = ["| Floor | Asked | Measured | |", "|---|---|---|---|"]
        lines += [
            f"| {f.name} | {f.asked} | {f.measured} | {_verdict(f)} |" for f in judge(self.results)
        ]
        return "\n".join(lines) + "\n"

    def page(self) -> str:
        """docs/bench.md."""
        m, v = self.machine, self.versions
        return (
            "# How fast it is\n\n"
            "Written by `make bench`; do not edit it. Every figure is the median of "
            f"{self.sizes.rounds} interleaved rounds on one\nmachine that carried PostgreSQL, "
            "Redis, the API, the workers, the yardsticks and the load generator together;\n"
            "`bench/results.json` has every round. Compare within the table: an absolute number "
            "says little about another machine.\n\n"
            f"{m['cores']} cores ({m['cpu']}), {m['memory_gib']:g} GiB, Linux {m['kernel']}, one "
            f"fdatasync {m['fdatasync_us']:g} µs.\nPython {v['python']}, PostgreSQL "
            f"{v['postgresql']} (fsync and synchronous_commit on), Redis {v['redis']} (AOF, "
            "everysec).\n\n"
            "![The figures as bars](bench.svg)\n\n"
            f"{self.table()}\n{_METHOD.read_text()}\n"
            f"## Floors\n\n{self.floors()}\n"
            "## Processor time\n\nMicroseconds of user and system time that each component spent "
            f"on one unit of work.\n\n{self.processor()}"
        )


def show_in(readme: Path, report: Report) -> None:
    """Put plot and table between the marks of README; without marks nothing happens."""
    text = readme.read_text() if readme.exists() else ""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if begin and end:
        shown = (
            "`make bench` measures the platform beside yardsticks on the same machine, in one run. "
            "[How, with floors\nand processor time](docs/bench.md). Medians of "
            f"{report.sizes.rounds} rounds on {report.machine['cores']} cores that carried "
            "PostgreSQL, Redis and the load generator as well:\n\n"
            f"![The figures as bars](docs/bench.svg)\n\n{report.table()}"
        )
        readme.write_text(f"{before}{begin}\n{shown}{end}{after}")


def _verdict(floor: Floor) -> str:
    if floor.met is None:
        return "not measured"
    if floor.is_aim:
        return "aim met" if floor.met else "aim not met"
    return "met" if floor.met else "**not met**"


def _summed(values: Sequence[float]) -> dict[str, Any]:
    return {"median": round(median(values), 2), "rounds": list(values)}


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
