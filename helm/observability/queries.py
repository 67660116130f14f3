"""Queries as the dashboard's panels ask them, and what a panel is.

The names are those of `csb_core.metrics` (docs/metrics.md). Several environments may share one
Prometheus, so every query names the namespace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

WINDOW: Final = "$__rate_interval"
#: What Prometheus makes of the label csecbridge.io/track, which tells two versions apart.
TRACK: Final = "csecbridge_io_track"


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One question: its queries by their legends, and from which value on it is yellow and red."""

    title: str
    queries: Mapping[str, str]
    unit: str = "short"
    asks: str = ""
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    stacked: bool = False
    thresholds: tuple[tuple[float, str], ...] = field(default=())


def of(metric: str, where: str = "") -> str:
    """The series of a metric in the chosen namespace."""
    inner = 'namespace="$namespace"' + (f",{where}" if where else "")
    return f"{metric}{{{inner}}}"


def total(metric: str, *by: str, where: str = "", how: str = "sum") -> str:
    """A gauge of all processes together."""
    return (
        f"{how} by ({', '.join(by)}) ({of(metric, where)})" if by else f"{how}({of(metric, where)})"
    )


def rate(metric: str, *by: str, where: str = "", window: str = WINDOW) -> str:
    """How often a second, of all processes together."""
    grouped = f" by ({', '.join(by)}) " if by else ""
    return f"sum{grouped}(rate({of(metric, where)}[{window}]))"


def quantile(part: float, histogram: str, *by: str, where: str = "") -> str:
    """Below which value this part of a histogram lies."""
    return f"histogram_quantile({part}, {rate(f'{histogram}_bucket', 'le', *by, where=where)})"


def mean(histogram: str, *by: str) -> str:
    """The mean of a histogram."""
    return f"{rate(f'{histogram}_sum', *by)} / {rate(f'{histogram}_count', *by)}"


def errors(*by: str, window: str = WINDOW) -> str:
    """Of the calls, the part that was answered with a 5xx; 0 when none was."""
    count = "csb_http_request_seconds_count"
    calls = rate(count, *by, window=window)
    failed = rate(count, *by, where='status=~"5.."', window=window)
    return f"({failed} or {calls} * 0) / {calls}"
