"""Every number that the platform shows to Prometheus, declared once and in the order of the line.

With several processes under one gunicorn each keeps its values in a file of its own, and whichever
is asked adds them up: `metrics_dir` prepares the place, and must do so before this is imported.
`docs/metrics.md` is written from these declarations.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from csb_core.errors import BridgeError

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
REGISTRY: Final = CollectorRegistry()

_SHORT: Final = (0.001, 0.002, 0.004, 0.008, 0.016, 0.03, 0.06, 0.125, 0.25, 0.5, 1, 2.5, 5, 30)
_LONG: Final = (0.004, 0.008, 0.016, 0.03, 0.06, 0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 60, 120, 600)
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(name, text, labels, registry=REGISTRY)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    return Gauge(name, text, labels, registry=REGISTRY, multiprocess_mode="livesum")


def _seconds(name: str, text: str, *labels: str, buckets: tuple[float, ...] = _SHORT) -> Histogram:
    return Histogram(name, text, labels, registry=REGISTRY, buckets=buckets)


def _sizes(name: str, text: str, *labels: str) -> Histogram:
    return Histogram(name, text, labels, registry=REGISTRY, buckets=_SIZES)


# HTTP

HTTP_SECONDS = _seconds(
    "csb_http_request_seconds", "Time to answer, by route and status", "method", "route", "status"
)
AUTH_FAILURES = _counter(
    "csb_auth_failures_total",
    "Calls refused for their token: missing, malformed, unknown, expired, revoked or scope",
    "reason",
)
RATE_LIMITED = _counter(
    "csb_rate_limited_total", "Calls refused for their number, by tenant's or key's limit", "limit"
)
LONG_POLL_WAITERS = _gauge("csb_long_poll_waiters", "Readers waiting for a request to move")

# Accept: validate, persist, publish

ACCEPTED = _counter(
    "csb_requests_accepted_total", "Requests made durable and answered 202", "provider", "action"
)
REPEATED = _counter(
    "csb_requests_repeated_total", "Posts that named a request already there", "provider"
)
REFUSED = _counter(
    "csb_requests_refused_total", "Requests not accepted, by the code of the answer", "reason"
)
SUBMIT_BATCH = _sizes("csb_submit_batch_size", "Requests written by one statement")
SUBMIT_SECONDS = _seconds("csb_submit_seconds", "Time of the statement that writes requests")
PUBLISHED = _counter("csb_messages_published_total", "Messages pushed to a list", "provider")
PUBLISH_FAILURES = _counter(
    "csb_publish_failures_total", "Messages that the rescuer must ring later", "provider"
)

UTILS_CREATED = _counter(
    "utils_created_total",
    "Utils created, by tenant and key (or none, as CSB_METRICS_USER_LABEL says)",
    "tenant_id",
    "user_id",
)

# Read

CACHE_READS = _counter(
    "csb_cache_reads_total", "Status reads: hit, miss, or unavailable for want of Redis", "result"
)
CACHE_FILLS = _counter(
    "csb_cache_fills_total",
    "Fills: filled, refused (the row moved meanwhile), too_large, or unavailable",
    "result",
)

# Consume, claim

POPPED = _counter("csb_messages_popped_total", "Messages taken from a list", "provider")
DROPPED = _counter(
    "csb_messages_dropped_total",
    "Messages that named no work: unreadable, unknown, forged (digest differs) or settled",
    "provider",
    "reason",
)
CLAIMED = _counter("csb_requests_claimed_total", "Leases taken", "provider")
CLAIM_BATCH = _sizes("csb_claim_batch_size", "Leases taken by one statement", "provider")
CLAIM_SECONDS = _seconds("csb_claim_seconds", "Time of the claiming statement", "provider")
SLOTS = _gauge("csb_slots", "Requests that the workers can execute at once", "provider")
SLOTS_BUSY = _gauge("csb_slots_busy", "Requests being executed now", "provider")

# Execute

EXECUTE_SECONDS = _seconds(
    "csb_execute_seconds", "Time of one attempt", "provider", "action", buckets=_LONG
)
OUTCOMES = _counter(
    "csb_outcomes_total",
    "Ends of attempts: succeeded, failed, retry or unfinished, with the error's class",
    "provider",
    "outcome",
    "error_class",
)
DEADLINES_MISSED = _counter(
    "csb_deadlines_missed_total", "Slots given up because an action did not return", "provider"
)
HEARTBEAT_SECONDS = _seconds(
    "csb_heartbeat_seconds", "Time of the statement that extends leases", "provider"
)
LEASES_LOST = _counter("csb_leases_lost_total", "Leases found to be another worker's", "provider")

# Record, invalidate

RECORDED = _counter(
    "csb_requests_recorded_total",
    "Moves out of IN_PROGRESS, by the new status",
    "provider",
    "status",
)
RECORD_BATCH = _sizes("csb_record_batch_size", "Ends written by one statement", "provider")
RECORD_SECONDS = _seconds("csb_record_seconds", "Time of the recording statement", "provider")
STALE_WRITES = _counter(
    "csb_stale_writes_total", "Records refused because the lease was replaced", "provider"
)
RETRIES = _counter(
    "csb_retries_total", "Attempts given back to be tried again", "provider", "error_class"
)
INVALIDATION_FAILURES = _counter(
    "csb_cache_invalidation_failures_total", "Invalidations to be tried again", "provider"
)
REQUEST_SECONDS = _seconds(
    "csb_request_seconds", "Time from POST to the end", "provider", "status", buckets=_LONG
)

# Rescue

RESCUED = _counter(
    "csb_rescues_total",
    "Requests helped by the rescuer: returned (lease ran out), rung again, spent (failed)",
    "provider",
    "kind",
)
POISONED = _counter(
    "csb_poisoned_total", "Requests failed because they kept killing their worker", "provider"
)
RESCUE_SECONDS = _seconds("csb_rescue_seconds", "Time of one pass of the rescuer", "provider")

# Around the line

SECURITY_EVENTS = _counter(
    "csb_security_events_total", "Events that somebody should look at", "kind"
)
POOL_CONNECTIONS = _gauge(
    "csb_pool_connections", "Connections to PostgreSQL, idle or used", "pool", "state"
)
POOL_WAITING = _gauge("csb_pool_waiting", "Callers waiting for a connection", "pool")

# Execute utils: names without our prefix are those that dashboards know already

UTILS_EXECUTED = _counter(
    "utils_executed_total",
    "Executions of utils, by how they ended: success, or the exit reason",
    "tenant_id",
    "util_id",
    "status",
)
EXECUTION_SECONDS = _seconds(
    "execution_duration_seconds",
    "Time of one execution of a util",
    "tenant_id",
    "util_id",
    buckets=_LONG,
)
ACTIVE_CONTAINERS = _gauge("active_containers", "Jails in which a util is being executed")
SANDBOX_READY = _gauge("csb_sandbox_jails_ready", "Jails that wait for a util")
SANDBOX_EMPTY = _counter(
    "csb_sandbox_pool_empty_total", "Executions that found no jail ready and had one made"
)
SANDBOX_PREPARE_SECONDS = _seconds("csb_sandbox_prepare_seconds", "Time to make a jail")
SANDBOX_KILLS = _counter(
    "csb_sandbox_kills_total", "Executions ended by force, by the exit reason", "reason"
)
SANDBOX_FIT = _gauge("csb_sandbox_fit", "Processes whose sandbox has passed its self-test", "tier")
UTIL_CACHE = _counter(
    "csb_util_cache_total",
    "Looks for a util's code: level process, redis or store; hit, miss, corrupt or unavailable",
    "level",
    "result",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueReading:
    """What stands in one provider's lists, for how long the oldest, and of how many tenants."""

    provider: str
    depth: int
    oldest_seconds: float
    tenants: int


ReadQueues = Callable[[], Iterable[QueueReading]]


class QueueCollector(Collector):
    """Asks for the queues when Prometheus asks us; a queue that does not answer is said, too."""

    def __init__(self, read: ReadQueues) -> None:
        self._read = read

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Give depth, age, tenants and whether they could be read."""
        depth = GaugeMetricFamily("csb_queue_depth", "Messages that stand", labels=["provider"])
        age = GaugeMetricFamily(
            "csb_queue_oldest_seconds", "Age of the oldest message", labels=["provider"]
        )
        tenants = GaugeMetricFamily(
            "csb_tenants_waiting", "Tenants with sorted messages", labels=["provider"]
        )
        up = GaugeMetricFamily("csb_queue_up", "1 when the queues could be read, else 0")
        try:
            readings = list(self._read())
        except BridgeError:
            readings, answered = [], 0
        else:
            answered = 1
        for reading in readings:
            depth.add_metric([reading.provider], reading.depth)
            age.add_metric([reading.provider], reading.oldest_seconds)
            tenants.add_metric([reading.provider], reading.tenants)
        up.add_metric([], answered)
        yield from (depth, age, tenants, up)


def render(read_queues: ReadQueues | None = None) -> bytes:
    """Return the text for Prometheus: this process's numbers, or all processes' added up."""
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
    text = generate_latest(registry)
    if read_queues is not None:
        queues = CollectorRegistry()
        queues.register(QueueCollector(read_queues))
        text += generate_latest(queues)
    return text


def observe_pool(pool: str, stats: Mapping[str, int]) -> None:
    """Set the pool's gauges from `ConnectionPool.get_stats()`."""
    size, idle = stats.get("pool_size", 0), stats.get("pool_available", 0)
    POOL_CONNECTIONS.labels(pool, "idle").set(idle)
    POOL_CONNECTIONS.labels(pool, "used").set(size - idle)
    POOL_WAITING.labels(pool).set(stats.get("requests_waiting", 0))


def declared() -> list[MetricWrapperBase]:
    """Return every metric above, in the order of the line."""
    return [value for value in globals().values() if isinstance(value, MetricWrapperBase)]
