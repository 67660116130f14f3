"""Background roles outlive whatever their passes come to."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest

from api_service.ticker import Ticker
from csb_core.errors import CacheUnavailable


@pytest.mark.parametrize(
    ("fault", "event"),
    [(CacheUnavailable("away"), "ticker.pass_failed"), (KeyError("a bug"), "ticker.crashed")],
)
def test_a_role_goes_on_after_a_pass_that_failed(
    fault: Exception, event: str, caplog: pytest.LogCaptureFixture
) -> None:
    passes: list[int] = []

    def once() -> None:
        passes.append(len(passes))
        if len(passes) == 1:
            raise fault
        if len(passes) == 3:
            ticker._stop.set()

    ticker = Ticker("role", every=timedelta(milliseconds=1), once=once)
    with caplog.at_level(logging.WARNING):
        ticker.run()

    assert len(passes) == 4, "three, and the one at the end"
    assert [record.message for record in caplog.records] == [event]
