"""How often a tenant and a key may call: Flask-Limiter's strategy over our shared counters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import redis
from flask import Flask
from flask_limiter import Limiter
from limits import RateLimitItem, RateLimitItemPerMinute, parse

from api_service.circuit import Circuit
from api_service.counters import SharedCounters
from api_service.key_store import Known
from csb_core import metrics
from csb_core.config import ApiSettings
from csb_core.errors import BridgeError


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a caller stands with the tighter of its limits."""

    limit: int
    remaining: int
    reset_seconds: int

    def headers(self) -> list[tuple[str, str]]:
        """Return it as the RateLimit-* headers."""
        return [
            ("RateLimit-Limit", str(self.limit)),
            ("RateLimit-Remaining", str(self.remaining)),
            ("RateLimit-Reset", str(self.reset_seconds)),
        ]


class TooManyRequests(BridgeError):
    """The tenant, or the key, has used up what it may do in this window."""

    code: ClassVar[str] = "rate_limited"
    retryable: ClassVar[bool] = True

    def __init__(self, whose: str, standing: Standing) -> None:
        super().__init__(
            f"this {whose} may make {standing.limit} requests in its window; "
            f"try again in {standing.reset_seconds} s"
        )
        self.standing = standing


class Limits:
    """The two limits that every authenticated call is counted against."""

    def __init__(
        self, app: Flask, settings: ApiSettings, redis_client: redis.Redis, circuit: Circuit
    ) -> None:
        options: dict[str, Any] = {"redis_client": redis_client, "circuit": circuit}
        limiter = Limiter(
            lambda: "",
            strategy="sliding-window-counter",
            storage_uri="csb-shared://",
            storage_options=options,
        )
        # The extension's hooks look for limits declared on views, 50 us a request; we have none,
        # as every route is limited alike. An app that lists the limiter already gets no hooks.
        app.extensions["limiter"] = {limiter}
        limiter.init_app(app)
        self._strategy = limiter.limiter
        self._of_tenant = parse(settings.rate_limit_tenant)
        self._of_key = parse(settings.rate_limit_key)
        assert isinstance(limiter.storage, SharedCounters)
        self.counters = limiter.storage

    def count(self, known: Known, *, cost: int) -> Standing:
        """Count a call; returns where the caller stands, raises TooManyRequests."""
        caller = known.caller
        of_key = _per_minute(caller.requests_per_minute) or self._of_key
        of_tenant = _per_minute(known.tenant_requests_per_minute) or self._of_tenant
        key = self._hit("key", of_key, caller.key_id, cost)
        tenant = self._hit("tenant", of_tenant, str(caller.tenant_id), cost)
        return key if key.remaining <= tenant.remaining else tenant

    def _hit(self, whose: str, item: RateLimitItem, who: str, cost: int) -> Standing:
        cost = min(cost, item.amount)  # what costs more than there is takes all there is
        key, window = item.key_for(whose, who), item.get_expiry()
        if self._strategy.hit(item, whose, who, cost=cost):
            used, left = self.counters.standing(key, window)
            remaining = max(0, item.amount - math.ceil(used))
            return Standing(limit=item.amount, remaining=remaining, reset_seconds=math.ceil(left))
        metrics.RATE_LIMITED.labels(whose).inc()
        wait = self.counters.free_in(key, item.amount, window, cost)
        raise TooManyRequests(
            whose, Standing(limit=item.amount, remaining=0, reset_seconds=math.floor(wait) + 1)
        )


@lru_cache(maxsize=1024)
def _per_minute(amount: int | None) -> RateLimitItem | None:
    return RateLimitItemPerMinute(amount) if amount else None
