"""No code reaches a sandbox that has not withstood itself, and what stands is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from csb_core import keys, metrics
from csb_core.errors import ConfigurationError
from csb_core.models import Target
from csb_core.queue import connect
from worker_sandbox import doctor
from worker_sandbox.job import Job, Limits
from worker_sandbox.keeper import Keeper
from worker_sandbox.meter import Meter
from worker_sandbox.run_util import Leaving
from worker_sandbox.sandbox import Sandbox
from worker_sandbox.settings import JailSettings, load_jail_settings

SECOND = timedelta(seconds=1)


def work(code: str, given: Any = None, seconds: float = 10) -> Job:
    limits = Limits(timeout_seconds=seconds, memory_limit_mb=64)
    return Job(kind="transformer", code=code, input=given, limits=limits)


@pytest.fixture
def make() -> Iterator[Callable[..., Keeper]]:
    made: list[Keeper] = []

    def keeper(**settings: Any) -> Keeper:
        made.append(Keeper(settings=JailSettings(pool=2, **settings), meter=Meter(most_series=1)))
        return made[-1]

    yield keeper
    for one in made:
        one.stop()


def test_what_does_not_withstand_its_own_attacks_gets_no_code(
    make: Callable[..., Keeper], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = make()
    opened = Sandbox.open
    with monkeypatch.context() as weaker:
        weaker.setattr(
            Sandbox,
            "open",
            lambda settings: opened(settings, without=("seccomp", "landlock", "network")),
        )
        with connect(redis_url, timeout=SECOND) as client:
            keeper.tell(client)
            with pytest.raises(ConfigurationError, match=r"self-test: .*connect"):
                keeper.probe()
            assert client.get(keys.sandbox_runtime()) is None
        with pytest.raises(ConfigurationError, match="closed"):
            keeper.execute(work("def transform(data):\n    return 1\n"))

    keeper.probe()  # mended: it is opened anew, and examined anew
    assert keeper.execute(work("def transform(data):\n    return 1\n")).value == 1


def test_what_cannot_be_opened_says_why(make: Callable[..., Keeper], tmp_path: Path) -> None:
    keeper = make(python=tmp_path)
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        keeper.probe()


def test_packages_are_told_and_can_be_imported(
    make: Callable[..., Keeper], tmp_path: Path, redis_url: str
) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "colour_names").mkdir()
    (tmp_path / "colour_names" / "__init__.py").write_text("RED = '#f00'\n")
    about = tmp_path / "Colour_Names-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: Colour-Names\nVersion: 1.2\n")
    (about / "RECORD").write_text(
        "colour_names/__init__.py,,\nColour_Names-1.2.dist-info/RECORD,,\n"
    )

    keeper = make(packages=tmp_path)
    with connect(redis_url, timeout=SECOND) as client:
        keeper.tell(client)
        keeper.probe()
        told = orjson.loads(client.get(keys.sandbox_runtime()))
    assert told["packages"] == {"Colour-Names": {"version": "1.2", "modules": ["colour_names"]}}
    code = "import colour_names\ndef transform(data):\n    return colour_names.RED\n"
    assert keeper.execute(work(code)).value == "#f00"


def test_what_is_told_is_told_again_while_it_holds(
    make: Callable[..., Keeper], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker_sandbox.keeper.LOOK", timedelta(milliseconds=20))
    monkeypatch.setattr("worker_sandbox.keeper.TELL", timedelta(milliseconds=20))
    keeper = make()
    with connect(redis_url, timeout=SECOND) as client:
        keeper.tell(client)
        keeper.probe()
        thread = threading.Thread(target=keeper.run)
        thread.start()
        client.delete(keys.sandbox_runtime())
        ends = time.monotonic() + 5
        while not client.exists(keys.sandbox_runtime()):
            assert time.monotonic() < ends, "it was not told again"
            time.sleep(0.01)
        assert 0 < client.ttl(keys.sandbox_runtime()) <= 60

        keeper.interrupt()  # nothing stands any more
        client.delete(keys.sandbox_runtime())
        time.sleep(0.3)
        assert not client.exists(keys.sandbox_runtime())
        keeper.stop()
        thread.join(timeout=5)
        assert not thread.is_alive()


def test_what_runs_when_the_worker_ends_is_given_back(make: Callable[..., Keeper]) -> None:
    keeper = make()
    keeper.probe()
    ended: list[BaseException] = []

    def run() -> None:
        try:
            keeper.execute(
                work("import time\ndef transform(data):\n    time.sleep(30)\n", seconds=60)
            )
        except Leaving as exc:
            ended.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    while not metrics.ACTIVE_CONTAINERS._value.get():
        time.sleep(0.01)
    keeper.interrupt()
    thread.join(timeout=10)
    assert len(ended) == 1
    assert metrics.ACTIVE_CONTAINERS._value.get() == 0


def test_once_stopped_it_opens_nothing_any_more(make: Callable[..., Keeper]) -> None:
    """A probe that comes late must not leave a sandbox behind."""
    keeper = make()
    keeper.probe()
    keeper.stop()
    with pytest.raises(ConfigurationError):
        keeper.probe()
    assert keeper._sandbox is None


def test_without_jails_it_is_the_platform_that_is_at_fault(make: Callable[..., Keeper]) -> None:
    """Requests are given back without an attempt, and the worker closes until a probe passes."""
    keeper = make()
    keeper.probe()
    sandbox = keeper._sandbox
    assert sandbox is not None
    sandbox.close()
    with pytest.raises(ConfigurationError, match="no jails"):
        keeper.execute(work("def transform(data):\n    return 1\n"))


def test_the_doctor_shows_tier_and_attacks() -> None:
    tier, *attacks = doctor.examine_here()
    assert tier.check == "tier"
    assert tier.verdict in {"ok", "warning"}
    assert len(attacks) >= 12
    assert {one.verdict for one in attacks} <= {"ok", "unknown"}


def test_the_doctor_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CSB_SANDBOX_PYTHON", str(tmp_path))
    [found] = doctor.examine_here()
    assert found.verdict == "failed"
    assert found.remedy


def test_the_doctor_knows_no_accounts() -> None:
    nobody = Target(account_id="1", role_arn="r", external_id="e")
    for call in (
        lambda: doctor.target("1", "e", role="r"),
        lambda: doctor.documents(nobody, principal=None),
        lambda: doctor.examine(nobody),
    ):
        with pytest.raises(ConfigurationError, match="no account"):
            call()


def test_faulty_settings_are_told_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSB_SANDBOX_POOL", "0")
    monkeypatch.setenv("CSB_SANDBOX_TIER", "paper")
    with pytest.raises(ConfigurationError, match=r"CSB_SANDBOX_TIER.*CSB_SANDBOX_POOL"):
        load_jail_settings()
    monkeypatch.undo()
    monkeypatch.setenv("CSB_SANDBOX_PACKAGES", "/nowhere/at/all")
    with pytest.raises(ConfigurationError, match="CSB_SANDBOX_PACKAGES"):
        load_jail_settings()


def test_an_empty_setting_is_none_and_not_the_current_directory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CSB_SANDBOX_PACKAGES", "")
    assert load_jail_settings().packages is None
