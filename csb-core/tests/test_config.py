"""Settings: all faults told at once, by the names of their variables, and no secret shown."""

from __future__ import annotations

import pytest

from csb_core.config import ApiSettings, Settings, WorkerSettings, load
from csb_core.errors import ConfigurationError

DATABASE = "postgresql://csb_aws_user:hunter2@db.internal/csb"
REDIS = "rediss://:hunter3@redis.internal:6380/0"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is set but the two that have no default."""
    for name in WorkerSettings.model_fields | ApiSettings.model_fields:
        monkeypatch.delenv(f"CSB_{name.upper()}", raising=False)
    monkeypatch.setenv("CSB_DATABASE_URL", DATABASE)
    monkeypatch.setenv("CSB_REDIS_URL", REDIS)


def test_defaults_are_valid_and_fit_each_other() -> None:
    worker = load(WorkerSettings)
    assert worker.database_url.get_secret_value() == DATABASE
    assert worker.heartbeat_seconds * 2 <= worker.lease_seconds
    assert worker.lease.total_seconds() == worker.lease_seconds == 7
    # A killed worker's request is running again within 10 s: its lease, a pass, a block.
    assert worker.lease_seconds + worker.rescue_seconds + worker.block_seconds <= 10
    assert load(ApiSettings).service == "api-service"


def test_every_fault_is_told_at_once_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CSB_REDIS_URL")
    for name, value in {
        "CSB_DATABASE_URL": "mysql://root:hunter2@db.internal/csb",
        "CSB_LOG_LEVEL": "LOUD",
        "CSB_SLOTS": "none",
        "CSB_PROCESSES": "0",
        "CSB_BLOCK_SECONDS": "-1",
        "CSB_LEASE_SECONDS": "3",  # the heartbeat's default is 2
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as raised:
        load(WorkerSettings)
    told = {fault.partition(":")[0] for fault in str(raised.value).split("; ")}
    assert told == {
        "CSB_REDIS_URL",
        "CSB_DATABASE_URL",
        "CSB_LOG_LEVEL",
        "CSB_SLOTS",
        "CSB_PROCESSES",
        "CSB_BLOCK_SECONDS",
        "CSB_HEARTBEAT_SECONDS",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CSB_DATABASE_URL", "hunter2"),
        ("CSB_DATABASE_URL", "http://hunter2@db.internal"),
        ("CSB_REDIS_URL", "hunter2"),
        ("CSB_SLOTS", "hunter2"),
        ("CSB_LOG_LEVEL", "hunter2"),
    ],
)
def test_no_fault_repeats_what_was_given(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as raised:
        load(WorkerSettings)
    assert name in str(raised.value)
    assert "hunter" not in str(raised.value)


@pytest.mark.parametrize("kind", [Settings, ApiSettings, WorkerSettings])
def test_no_secret_is_in_what_settings_look_like(kind: type[Settings]) -> None:
    settings = load(kind)
    for text in (repr(settings), str(settings), str(settings.model_dump()), str(vars(settings))):
        assert "hunter" not in text


def test_a_heartbeat_leaves_room_for_a_missed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSB_LEASE_SECONDS", "10")
    monkeypatch.setenv("CSB_HEARTBEAT_SECONDS", "5")
    assert load(WorkerSettings).heartbeat_seconds == 5
    monkeypatch.setenv("CSB_HEARTBEAT_SECONDS", "5.1")
    with pytest.raises(ConfigurationError, match="CSB_HEARTBEAT_SECONDS"):
        load(WorkerSettings)


@pytest.mark.parametrize("rate", ["600/minute", "5 / 10 second", "1/day"])
def test_rates_are_read(monkeypatch: pytest.MonkeyPatch, rate: str) -> None:
    monkeypatch.setenv("CSB_RATE_LIMIT_KEY", rate)
    assert load(ApiSettings).rate_limit_key == rate


@pytest.mark.parametrize(
    "rate", ["", "lots", "600", "600/fortnight", "-1/minute", "0/minute", "5/0 second"]
)
def test_what_is_no_rate_is_refused(monkeypatch: pytest.MonkeyPatch, rate: str) -> None:
    monkeypatch.setenv("CSB_RATE_LIMIT_KEY", rate)
    with pytest.raises(ConfigurationError, match="CSB_RATE_LIMIT_KEY"):
        load(ApiSettings)


def test_settings_do_not_change_once_read() -> None:
    settings = load(Settings)
    with pytest.raises(ValueError, match="frozen"):
        settings.service = "another"


def test_what_is_given_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSB_SLOTS", "3")
    assert load(WorkerSettings).slots == 3
    assert load(WorkerSettings, slots=4).slots == 4
