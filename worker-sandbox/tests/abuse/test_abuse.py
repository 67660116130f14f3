"""Every case twice: it succeeds outside, so it proves something; and it fails inside."""

from __future__ import annotations

import os

import pytest

from abuse import outside
from abuse.arena import Arena
from abuse.attacks import CASES
from abuse.case import NAMESPACES_ONLY, Case, done
from abuse.world import World

every_case = pytest.mark.parametrize("case", CASES, ids=str)


@every_case
def test_it_succeeds_outside(case: Case, here: World) -> None:
    if case.as_root and os.geteuid() != 0:
        pytest.skip("succeeds only for root")
    given = {**here.told(), **case.given, **case.given_outside}
    ending = outside.run(case.source, given, apart=case.apart, patience=case.patience)

    if case.denied:
        failed = {
            name: ending.evidence[name] for name in case.denied if not done(ending.evidence, name)
        }
        assert not failed, f"proves nothing: {failed}"
    case.outside(ending)


@every_case
def test_the_jail_holds(case: Case, arena: Arena) -> None:
    if arena.sandbox.tier.name == "landlock" and case.name in NAMESPACES_ONLY:
        pytest.skip(NAMESPACES_ONLY[case.name])
    with arena.watched():
        run = arena.run(case.job(arena.world.told()))

    assert run.exit_reason in case.ends, run
    told = run.value if run.exit_reason == "ok" else {}
    succeeded = {name: told[name] for name in case.denied if told and done(told, name)}
    assert not succeeded, f"the jail let it: {succeeded}"
    case.inside(run)
