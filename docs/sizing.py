"""The tables of docs/sizing.md: what bench has measured, and what the charts ask for.

Its figures are bench/results.json (`make bench`), bench/footprint.json (`python -m
bench.footprint`) and the charts' values; `python docs/generate.py` writes them into the page.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parent.parent
PRESETS: Final = ("dev", "small", "ha")

#: What the bench calls a unit of work, and what it is.
_UNITS: Final = (
    ("steady", "a request from its POST to its end, 50 a second"),
    ("line", "a request from its POST to its end, as many as go"),
    ("batch", "a request posted with 99 others"),
    ("hit", "a read that is cached"),
    ("miss", "a read that is not"),
    ("execution", "a util, from its POST to the result in the same call"),
)
#: The columns of that table, and the components of the bench that each adds up.
_COLUMNS: Final = {
    "API": ("api",),
    "worker": ("worker", "sandbox"),
    "PostgreSQL": (
        "postgres for api", "postgres for worker", "postgres for sandbox", "postgres, the rest"),
    "Redis": ("redis",),
}  # fmt: skip

#: What the six calls of an AWS action cost a worker on top: the bench's action makes none. Measured
#: with 300 policies attached and detached in the local AWS; botocore signs, sends and parses.
_AWS_CALLS: Final = 15_000

#: Of each core, what the examples plan with: the rest is for peaks and for a pod that is away.
_BUSY: Final = 0.5
_DAY: Final = 86_400
_GB: Final = 1e9

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """An installation to reckon with: its load, and the unit whose costs it has."""

    name: str
    a_day: int
    peak: int
    executions: int
    unit: str
    preset: str


_EXAMPLES: Final = (
    Example(name="a team", a_day=10_000, peak=5, executions=1, unit="steady", preset="small"),
    Example(name="a company", a_day=500_000, peak=50, executions=10, unit="steady", preset="ha"),
    Example(
        name="a provider with many tenants",
        a_day=5_000_000, peak=400, executions=100, unit="line", preset="ha"),
)  # fmt: skip


def costs() -> tuple[Row, list[Row]]:
    """Microseconds of processor time for each unit, by component."""
    rows = [
        (said, *(f"{_micros(unit, parts):,.0f}" for parts in _COLUMNS.values()))
        for unit, said in _UNITS
    ]
    rows.append(("the six calls of an AWS action, on top", "0", f"{_AWS_CALLS:,}", "0", "0"))
    return ("µs of processor time for", *_COLUMNS), rows


def rates() -> tuple[Row, list[Row]]:
    """How many units a second one core of each component does."""
    rows = [
        (said, *(_per_core(_micros(unit, parts)) for parts in _COLUMNS.values()))
        for unit, said in _UNITS
    ]
    rows.append(("the six calls of an AWS action", "-", _per_core(_AWS_CALLS), "-", "-"))
    return ("a second, for each core given to it:", *_COLUMNS), rows


def room() -> tuple[Row, list[Row]]:
    """Memory, connections and disk."""
    taken, figures = _footprint(), _results()["figures"]
    disk = taken["disk_bytes"]
    rows: list[Row] = [
        (f"memory of {said}, MiB", f"{taken['memory'][name]['mib']:.0f}")
        for name, said in (
            ("api", "an API pod of 2 processes"),
            ("worker-aws", "an AWS worker of 2 processes"),
            ("worker-sandbox", "a sandbox worker at rest, with 6 ready jails"),
        )
    ]
    rows += [
        ("memory of a ready jail, MiB", f"{figures['waiting_jail_pss_mib']['median']:.1f}"),
        ("jails/s of one core, each used once",
         f"{1000 / figures['cpu_ms_per_execution']['median']:.0f}"),
        ("disk for a million AWS requests, GB", f"{sum(disk.values()) / 1000:.1f}"),
        ("... of it the requests", f"{disk['csb_requests'] / 1000:.1f}"),
        ("... their audit", f"{disk['csb_requests_audit'] / 1000:.1f}"),
        ("... the ids of AWS's answers", f"{disk['csb_requests_ref'] / 1000:.1f}"),
        ("write-ahead log for a million, GB", f"{taken['write_ahead_log_bytes'] / 1000:.1f}"),
        ("Redis for a million that wait, GB", f"{taken['redis_message_bytes'] / 1000:.2f}"),
    ]  # fmt: skip
    return ("What", "Measured"), rows


def examples() -> tuple[Row, list[Row]]:
    """What three installations need."""
    head = ("", *(f"{one.name} (`{one.preset}`)" for one in _EXAMPLES))
    needs = [list(_needs(one)) for one in _EXAMPLES]
    return head, [(name, *(need[n][1] for need in needs)) for n, (name, _) in enumerate(needs[0])]


def presets() -> tuple[Row, list[Row]]:
    """What the charts ask for, with each preset."""
    asked = [list(_asked(_values(preset))) for preset in PRESETS]
    head = ("", *(f"`{preset}`" for preset in PRESETS))
    return head, [(name, *(part[n][1] for part in asked)) for n, (name, _) in enumerate(asked[0])]


def _needs(one: Example) -> Iterator[tuple[str, str]]:
    per_request = {name: _micros(one.unit, parts) for name, parts in _COLUMNS.items()}
    per_run = {name: _micros("execution", parts) for name, parts in _COLUMNS.items()}
    bytes_of_one = sum(_footprint()["disk_bytes"].values())
    yield "requests a day", f"{one.a_day:,}"
    yield "at the peak, a second", f"{one.peak:,}"
    yield "... of them utils", f"{one.executions:,}"
    acting = one.peak - one.executions
    for name, said in (("API", "API"), ("PostgreSQL", "PostgreSQL"), ("Redis", "Redis")):
        busy = acting * per_request[name] + one.executions * per_run[name]
        yield f"cores for {said}", _cores(busy)
    yield "cores for AWS workers", _cores(acting * (per_request["worker"] + _AWS_CALLS))
    yield "cores for sandbox workers", _cores(one.executions * per_run["worker"])
    for days in (30, 365):
        yield f"disk, {days} days kept, GB", f"{one.a_day * days * bytes_of_one / _GB:,.0f}"
    log = one.a_day * _footprint()["write_ahead_log_bytes"]
    yield "write-ahead log a day, GB", f"{log / _GB:,.1f}"


def _asked(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    api, workers = values["api-service"], values["worker"]["workers"]
    yield "API pods", _pods(api)
    for name in ("aws", "sandbox"):
        yield f"{name} worker pods", _pods(workers[name])
    aws, sandbox = workers["aws"], workers["sandbox"]
    yield "AWS requests at once", f"{_most(aws) * aws['processes'] * aws['slots']:,}"
    yield "utils at once", f"{_most(sandbox) * sandbox['processes'] * sandbox['slots']:,}"
    opened = sum(_most(each) * each["processes"] * each["poolMax"] for each in (api, aws, sandbox))
    yield "connections at most, and ten kept", f"{opened + 10}"
    yield (
        "connections that PostgreSQL may have",
        f"{values['global']['postgres']['maxConnections']}",
    )
    mode = values["global"]["postgres"]["mode"]
    part = values["postgres-db"]["cnpg" if mode == "cnpg" else "embedded"]
    yield "volume of PostgreSQL", part["storage"]["size"]
    size = int(part["storage"]["size"].removesuffix("Gi")) * 2**30
    held = size * 0.7 / sum(_footprint()["disk_bytes"].values())
    yield "... holds so many requests (70 % of it)", f"{held / 1e6:,.1f} million"


def _pods(chart: Mapping[str, Any]) -> str:
    scaling = chart["autoscaling"]
    if not scaling["enabled"]:
        return str(chart["replicas"])
    return f"{scaling['minReplicas']} to {scaling['maxReplicas']}"


def _most(chart: Mapping[str, Any]) -> int:
    scaling = chart["autoscaling"]
    return int(scaling["maxReplicas"] if scaling["enabled"] else chart["replicas"])


def _values(preset: str) -> Mapping[str, Any]:
    """The values of the umbrella with a preset, as Helm lays them over each other."""
    over = _yaml(f"csecbridge/presets/{preset}.yaml")
    values: dict[str, Any] = _yaml("csecbridge/values.yaml")
    for chart in ("api-service", "worker", "postgres-db"):
        values = _merged({chart: _yaml(f"{chart}/values.yaml")}, values)
    values = _merged(values, over)
    worker = values["worker"]
    worker["workers"] = {
        name: _merged(worker["defaults"], spec) for name, spec in worker["workers"].items()
    }
    return values


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(under)
    for key, value in over.items():
        below = both.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            both[key] = _merged(below, value)
        else:
            both[key] = value
    return both


def _micros(unit: str, parts: Sequence[str]) -> float:
    measured = _results()["cpu_microseconds"][unit]
    return sum(float(measured[part]["median"]) for part in parts if part in measured)


def _per_core(micros: float) -> str:
    rate = 1e6 / micros if micros >= 1 else 0
    return f"{float(f'{rate:.2g}'):,.0f}" if rate else "-"


def _cores(micros_a_second: float) -> str:
    return f"{max(micros_a_second / 1e6 / _BUSY, 0.05):.2f}"


@cache
def _results() -> Any:
    return _json("results.json")


@cache
def _footprint() -> Any:
    return _json("footprint.json")


def _json(name: str) -> Any:
    return json.loads((ROOT / "bench" / name).read_text(encoding="utf-8"))


def _yaml(name: str) -> Any:
    return yaml.safe_load((ROOT / "helm" / name).read_text(encoding="utf-8"))
