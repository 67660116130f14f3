"""One command, one run: `python -m bench` from the root; `--quick` for a look."""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import psycopg

from bench import history, machine, venv
from bench.failure import BenchFailed, Ended
from bench.floors import judge
from bench.load import ROOT
from bench.report import Report, show_in
from bench.rounds import NAMES, Plan, Results
from bench.servers import OLD, YOUNG, Servers, running
from bench.sizes import FULL, QUICK, Sizes
from bench.yardsticks.side import Side

#: Whatever hangs, the run ends after this.
_LONGEST: Final = timedelta(minutes=60)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write, tell; 1 when a measurement failed, or with --strict a floor is not met."""
    chosen = _parse(argv)
    sizes = QUICK if chosen.quick else FULL
    sizes = replace(
        sizes,
        rounds=chosen.rounds or sizes.rounds,
        history=sizes.history if chosen.history is None else chosen.history,
    )
    run = Path(os.environ.get("CSB_RUN_DIR", ROOT / ".run")).resolve() / "bench"
    try:
        with _alone(run), _bounded():
            report = _measure(run, sizes, chosen.only)
    except (BenchFailed, Ended) as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 1
    failures = report.results.failures
    publish = not (chosen.quick or chosen.only or failures)
    _write(report, run, python=run.parent / "bench-venv" / "bin" / "python", publish=publish)
    for failure in failures:
        print(f"bench: failed in {failure}", file=sys.stderr)
    unmet = [floor for floor in judge(report.results) if floor.met is False and not floor.is_aim]
    return 1 if failures or (unmet and chosen.strict) else 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="Measure us beside yardsticks.")
    parser.add_argument("--quick", action="store_true", help="a look in less than two minutes")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help=f"only what begins with this; may be repeated: {', '.join(NAMES)}",
    )
    parser.add_argument("--rounds", type=int, help="so many interleaved rounds")
    parser.add_argument(
        "--history", type=int, metavar="ROWS", help="ended requests in the old tables; 0 for none"
    )
    parser.add_argument("--strict", action="store_true", help="fail when a floor is not met")
    chosen = parser.parse_args(argv)
    for word in chosen.only:
        if not any(name.startswith(word) for name in NAMES):
            parser.error(f"--only {word}: there are {', '.join(NAMES)}")
    return chosen


def _measure(run: Path, sizes: Sizes, only: Sequence[str]) -> Report:
    python = venv.ensure(run.parent / "bench-venv")
    facts = machine.facts(run)
    if facts["load_before"] > 0.5:
        print(f"bench: the machine is busy (load {facts['load_before']}); so will be the figures")
    with running(run) as servers:
        side = Side(servers=servers, sizes=sizes, python=python)
        plan = Plan(
            side=side,
            young=servers.platform(YOUNG),
            old=servers.platform(OLD) if sizes.history else None,
            only=only,
        )
        _stock(servers, plan, sizes)
        results: Results = plan.run()
        return Report(
            results=results,
            sizes=sizes,
            machine=facts,
            versions=machine.versions(venv.versions(python)),
        )


def _stock(servers: Servers, plan: Plan, sizes: Sizes) -> None:
    del servers
    for platform, rows in ((plan.young, sizes.stock), (plan.old, sizes.history)):
        if platform is not None:
            print(f"bench: writing {rows:,} ended requests with their audit", flush=True)
            with psycopg.connect(platform.urls.superuser, autocommit=True) as conn:
                history.write(conn, platform.tenant_id, rows)


def _write(report: Report, run: Path, *, python: Path, publish: bool) -> None:
    """Tell it all; only a whole run changes what is published."""
    print(f"\n{report.table()}\n{report.processor()}\n{report.floors()}")
    results = report.write(ROOT / "bench" if publish else run)
    plot = ROOT / "docs" / "bench.svg" if publish else run / "bench.svg"
    subprocess.run(
        [str(python), "-m", "bench.plot", str(results), str(plot)],
        cwd=ROOT,
        check=True,
        timeout=120,
    )
    page = ROOT / "docs" / "bench.md" if publish else run / "bench.md"
    page.write_text(report.page())
    if publish:
        show_in(ROOT / "README.md", report)
    print(f"bench: see {page}, {plot.name} beside it, and {results}")


@contextmanager
def _alone(run: Path) -> Iterator[None]:
    """Two runs at once would measure each other."""
    run.mkdir(parents=True, exist_ok=True)
    with (run / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise BenchFailed("another bench is running here") from exc
        yield


@contextmanager
def _bounded() -> Iterator[None]:
    """End in good order at SIGTERM, and when everything takes too long."""

    def end(number: int, _: object) -> None:
        raise Ended(f"ended by {signal.Signals(number).name}")

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGALRM)}
    signal.alarm(int(_LONGEST.total_seconds()))
    try:
        yield
    finally:
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
