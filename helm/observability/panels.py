"""What the dashboard shows: rows of panels, each a question with the queries that answer it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from queries import TRACK, Panel, errors, mean, quantile, rate, total

POST: Final = 'method="POST"'

ROWS: Final[Mapping[str, tuple[Panel, ...]]] = {
    "Objectives": (
        Panel(
            title="Answered without a 5xx, 30 days",
            queries={"": f"1 - ({errors(window='30d')})"},
            unit="percentunit",
            asks="The objective is 99.9 %.",
            kind="stat",
            width=4,
            height=4,
            thresholds=((0, "red"), (0.999, "green")),
        ),
        Panel(
            title="Errors now",
            queries={"": errors()},
            unit="percentunit",
            asks="Above 1.44 % for an hour a 30-day budget is gone in two days: CsbApiErrorsFast.",
            kind="stat",
            width=4,
            height=4,
            thresholds=((0, "green"), (0.001, "yellow"), (0.0144, "red")),
        ),
        Panel(
            title="POST, 95 of 100 within",
            queries={"": quantile(0.95, "csb_http_request_seconds", where=POST)},
            unit="s",
            asks="The objective is 500 ms.",
            kind="stat",
            width=4,
            height=4,
            thresholds=((0, "green"), (0.3, "yellow"), (0.5, "red")),
        ),
        Panel(
            title="Oldest message",
            queries={"": total("csb_queue_oldest_seconds", how="max")},
            unit="s",
            asks="Above 30 s nobody takes work: CsbWorkStands.",
            kind="stat",
            width=4,
            height=4,
            thresholds=((0, "green"), (10, "yellow"), (30, "red")),
        ),
        Panel(
            title="Queues can be read",
            queries={"": total("csb_queue_up", how="max")},
            asks="0: Redis is away. Nothing is lost, all is slower.",
            kind="stat",
            width=4,
            height=4,
            thresholds=((0, "red"), (1, "green")),
        ),
        Panel(
            title="Sandboxes that withstood their self-test",
            queries={"{{tier}}": total("csb_sandbox_fit", "tier")},
            kind="stat",
            width=4,
            height=4,
            thresholds=((0, "red"), (1, "green")),
        ),
    ),
    "API": (
        Panel(
            title="Calls by status",
            queries={"{{status}}": rate("csb_http_request_seconds_count", "status")},
            unit="reqps",
            stacked=True,
        ),
        Panel(
            title="Time to answer a POST",
            queries={
                f"{percent} of 100": quantile(percent / 100, "csb_http_request_seconds", where=POST)
                for percent in (50, 95, 99)
            },
            unit="s",
        ),
        Panel(
            title="Accepted and ended",
            queries={
                "accepted": rate("csb_requests_accepted_total"),
                "{{status}}": rate("csb_requests_recorded_total", "status"),
            },
            unit="reqps",
            asks="What is accepted and never ends waits, or hangs.",
        ),
        Panel(
            title="Errors by version",
            queries={f"{{{{{TRACK}}}}}": errors(TRACK)},
            unit="percentunit",
            asks="stable and next side by side: whether a canary may have more.",
        ),
        Panel(
            title="Time to answer a POST by version, 95 of 100",
            queries={
                f"{{{{{TRACK}}}}}": quantile(0.95, "csb_http_request_seconds", TRACK, where=POST)
            },
            unit="s",
        ),
        Panel(
            title="Refused",
            queries={
                "token: {{reason}}": rate("csb_auth_failures_total", "reason"),
                "rate: {{limit}}": rate("csb_rate_limited_total", "limit"),
                "request: {{reason}}": rate("csb_requests_refused_total", "reason"),
            },
            unit="reqps",
        ),
        Panel(title="Long polls", queries={"waiting": total("csb_long_poll_waiters")}, width=12),
        Panel(
            title="Requests by one statement",
            queries={
                "submitted": mean("csb_submit_batch_size"),
                "claimed, {{provider}}": mean("csb_claim_batch_size", "provider"),
                "recorded, {{provider}}": mean("csb_record_batch_size", "provider"),
            },
            asks="Batches grow with the load: more work for one round trip.",
            width=12,
        ),
    ),
    "Work": (
        Panel(
            title="Messages that stand",
            queries={"{{provider}}": total("csb_queue_depth", "provider", how="max")},
        ),
        Panel(
            title="Age of the oldest message",
            queries={"{{provider}}": total("csb_queue_oldest_seconds", "provider", how="max")},
            unit="s",
        ),
        Panel(
            title="Tenants whose messages wait",
            queries={"{{provider}}": total("csb_tenants_waiting", "provider", how="max")},
        ),
        Panel(
            title="Slots",
            queries={
                "{{provider}}: there are": total("csb_slots", "provider"),
                "{{provider}}: busy": total("csb_slots_busy", "provider"),
            },
        ),
        Panel(
            title="From POST to the end, 95 of 100",
            queries={"{{provider}}": quantile(0.95, "csb_request_seconds", "provider")},
            unit="s",
        ),
        Panel(
            title="One attempt, 95 of 100",
            queries={
                "{{provider}} {{action}}": quantile(
                    0.95, "csb_execute_seconds", "provider", "action"
                )
            },
            unit="s",
        ),
        Panel(
            title="Ends that are no success, by class",
            queries={
                "{{outcome}}: {{error_class}}": rate(
                    "csb_outcomes_total", "outcome", "error_class", where='outcome!="succeeded"'
                )
            },
            unit="cps",
            stacked=True,
        ),
        Panel(
            title="Rescued",
            queries={
                "{{provider}}: {{kind}}": rate("csb_rescues_total", "provider", "kind"),
                "{{provider}}: poisoned": rate("csb_poisoned_total", "provider"),
            },
            unit="cps",
            asks="returned: a worker died with work in hand.",
        ),
        Panel(
            title="Late, lost, refused",
            queries={
                "{{provider}}: deadline missed": rate("csb_deadlines_missed_total", "provider"),
                "{{provider}}: lease lost": rate("csb_leases_lost_total", "provider"),
                "{{provider}}: stale write": rate("csb_stale_writes_total", "provider"),
            },
            unit="cps",
        ),
    ),
    "Sandbox": (
        Panel(
            title="Executions by how they ended",
            queries={"{{status}}": rate("utils_executed_total", "status")},
            unit="cps",
            stacked=True,
        ),
        Panel(
            title="Time of an execution",
            queries={
                f"{percent} of 100": quantile(percent / 100, "execution_duration_seconds")
                for percent in (50, 95, 99)
            },
            unit="s",
        ),
        Panel(
            title="Jails",
            queries={
                "busy": total("active_containers"),
                "ready": total("csb_sandbox_jails_ready"),
            },
        ),
        Panel(
            title="Killed, by reason",
            queries={"{{reason}}": rate("csb_sandbox_kills_total", "reason")},
            unit="cps",
            stacked=True,
        ),
        Panel(
            title="A jail had to be made first",
            queries={
                "a second": rate("csb_sandbox_pool_empty_total"),
                "time to make one, 95 of 100": quantile(0.95, "csb_sandbox_prepare_seconds"),
            },
            asks="Often: raise jails.pool.",
        ),
        Panel(
            title="Looks for a util's code",
            queries={"{{level}}: {{result}}": rate("csb_util_cache_total", "level", "result")},
            unit="cps",
        ),
    ),
    "Stores": (
        Panel(
            title="Reads of a status",
            queries={"{{result}}": rate("csb_cache_reads_total", "result")},
            unit="cps",
            stacked=True,
        ),
        Panel(
            title="Connections to PostgreSQL",
            queries={
                "{{pool}}: {{state}}": total("csb_pool_connections", "pool", "state"),
                "{{pool}}: callers wait": total("csb_pool_waiting", "pool"),
            },
        ),
        Panel(
            title="Time of a statement, 95 of 100",
            queries={
                "submit": quantile(0.95, "csb_submit_seconds"),
                "claim": quantile(0.95, "csb_claim_seconds"),
                "record": quantile(0.95, "csb_record_seconds"),
                "heartbeat": quantile(0.95, "csb_heartbeat_seconds"),
                "rescue": quantile(0.95, "csb_rescue_seconds"),
            },
            unit="s",
        ),
        Panel(
            title="Messages: pushed and taken",
            queries={
                "{{provider}}: pushed": rate("csb_messages_published_total", "provider"),
                "{{provider}}: taken": rate("csb_messages_popped_total", "provider"),
                "{{provider}}: to be rung later": rate("csb_publish_failures_total", "provider"),
            },
            unit="cps",
            width=12,
        ),
        Panel(
            title="Fills of the cache",
            queries={
                "{{result}}": rate("csb_cache_fills_total", "result"),
                "invalidation to be tried again": rate("csb_cache_invalidation_failures_total"),
            },
            unit="cps",
            width=12,
        ),
    ),
    "Security": (
        Panel(
            title="Security events",
            queries={"{{kind}}": rate("csb_security_events_total", "kind")},
            unit="cps",
            width=12,
        ),
        Panel(
            title="Messages that named no work",
            queries={
                "{{provider}}: {{reason}}": rate("csb_messages_dropped_total", "provider", "reason")
            },
            unit="cps",
            asks="forged: somebody writes into Redis who must not.",
            width=12,
        ),
    ),
}
