"""What cases ask of a run inside, and of their control outside."""

from __future__ import annotations

from typing import Any

from abuse.case import Check, Control, done
from abuse.outside import Ending
from worker_sandbox.job import Run


def all_of(*checks: Check) -> Check:
    """Every one of these."""

    def check(run: Run) -> None:
        for each in checks:
            each(run)

    return check


def gave(value: Any) -> Check:
    """Inside it gave just this."""

    def check(run: Run) -> None:
        assert run.value == value, run

    return check


def gave_at_most(most: float) -> Check:
    """Inside it got no further than this, if it lived to tell."""

    def check(run: Run) -> None:
        assert run.value is None or run.value <= most, run

    return check


def refused(*names: str) -> Check:
    """Inside these attempts failed; outside they need not succeed everywhere."""

    def check(run: Run) -> None:
        succeeded = [name for name in names if run.value and done(run.value, name)]
        assert not succeeded, run

    return check


def failed_with(*words: str) -> Check:
    """The tenant is told so, in one of these words."""

    def check(run: Run) -> None:
        assert any(word in str(run.error) for word in words), run

    return check


def answered(value: Any) -> Control:
    """Outside it gives just this."""

    def control(ending: Ending) -> None:
        assert ending.evidence == value, ending

    return control


def answers(ending: Ending) -> None:
    """Outside it gives whatever it gives."""
    assert ending.answer, ending


def answered_at_least(least: float) -> Control:
    """Outside it gets so far."""

    def control(ending: Ending) -> None:
        assert ending.evidence >= least, ending

    return control


def succeeded(*names: str) -> Control:
    """Outside these attempts succeed; inside they may, without harm."""

    def control(ending: Ending) -> None:
        failed = [name for name in names if not done(ending.evidence, name)]
        assert not failed, ending

    return control


def listed(name: str, least: int) -> Control:
    """Outside the list of this name has so many entries."""

    def control(ending: Ending) -> None:
        assert len(ending.evidence[name]) >= least, ending

    return control


def goes_on(ending: Ending) -> None:
    """Outside nothing ends it."""
    assert ending.timed_out, ending


def crashes(ending: Ending) -> None:
    """Outside a signal ends it."""
    assert ending.code < 0, ending


def fails(ending: Ending) -> None:
    """Outside it ends with an error, or with no answer."""
    assert ending.code != 0 or not ending.answer, ending


def silent(ending: Ending) -> None:
    """Outside the runner is gone before it could answer, and nothing tells that it failed."""
    assert (ending.code, ending.answer) == (0, b""), ending
