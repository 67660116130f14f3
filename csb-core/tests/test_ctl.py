"""csbctl as operators use it: what it answers, in text and JSON, and what it leaves behind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
import redis
from click.testing import CliRunner, Result

from csb_core import control_audit, keys, leases, queue, requests
from csb_core.ctl import account, doctor, main, rotation
from csb_core.ctl.surroundings import settle
from csb_core.errors import ConfigurationError
from csb_core.examination import Finding
from csb_core.leases import Candidate, End
from csb_core.models import Json, Target
from csb_core.states import Status
from csb_core.testing import Database, as_tenant, make_draft, make_tenant

ACCOUNT = "111122223333"
NOUNS = main.commands


@dataclass(slots=True, kw_only=True)
class Csbctl:
    """The command with its surroundings."""

    env: dict[str, str]
    runner: CliRunner = field(default_factory=CliRunner)

    def run(self, *args: str, answer: str | None = None) -> Result:
        """Run it as a shell would."""
        return self.runner.invoke(main, list(args), env=self.env, input=answer)

    def text(self, *args: str, answer: str | None = None) -> str:
        """Run it, and return what it shows; it must succeed."""
        result = self.run(*args, answer=answer)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *args: str) -> Any:
        """Run it with --json, and return what it answers; it must succeed."""
        return json.loads(self.text(*args, "--json"))


@pytest.fixture
def csbctl(database: Database, redis_url: str) -> Csbctl:
    return Csbctl(
        env={
            "CSB_ADMIN_DATABASE_URL": database.admin,
            "CSB_REDIS_URL": redis_url,
            "CSB_ACTOR": "grace",
        }
    )


@dataclass(frozen=True, slots=True)
class TinyDoctor:
    """A provider of the test's own."""

    findings: Sequence[Finding] = ()
    opened_by: set[str] = field(default_factory=set)

    def target(self, account_id: str, external_id: str, *, role: str) -> Target:
        if not account_id.isdigit():
            raise ConfigurationError("account_id: digits only")
        return Target(account_id=account_id, role_arn=f"tiny:{role}", external_id=external_id)

    def documents(self, target: Target, *, principal: str | None) -> dict[str, Json]:
        return {"Trust": {"who": principal, "if": target.external_id}}

    def trust(
        self, target: Target, *, principal: str | None, retiring: str | None = None
    ) -> dict[str, Json]:
        return {"Trust": {"who": principal, "if": [retiring, target.external_id]}}

    def enter(self, target: Target) -> Finding:
        if target.external_id in self.opened_by:
            return Finding(check="enter", verdict="ok", detail="fine")
        return Finding(check="enter", verdict="failed", detail="closed", remedy="open it")

    def examine(self, target: Target) -> Sequence[Finding]:
        assert target.external_id.startswith("csb-")
        return self.findings

    def examine_here(self) -> Sequence[Finding]:
        return self.findings


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def offer(*findings: Finding, opened_by: str = "") -> None:
        tiny = TinyDoctor(findings, {opened_by})
        for module in (account, doctor, rotation):
            monkeypatch.setattr(module, "doctor_for", lambda _: tiny)

    offer()
    return offer


def _fail(database: Database, tenant_id: UUID, how_many: int, **overrides: Any) -> list[UUID]:
    """Requests that were claimed and ended FAILED, oldest first."""
    drafts = [make_draft(tenant_id, **overrides) for _ in range(how_many)]
    with psycopg.connect(database.api, autocommit=True) as conn:
        requests.insert(conn, drafts)
    with psycopg.connect(database.aws, autocommit=True) as conn:
        taken = leases.claim(
            conn,
            [Candidate(correlation_id=d.correlation_id, digest=d.digest) for d in drafts],
            worker="w",
            ttl=timedelta(seconds=30),
        )
        ends = [
            End(
                correlation_id=lease.correlation_id,
                token=lease.token,
                status=Status.FAILED,
                result=None,
                changed=None,
                error={"class": "ACCESS_DENIED", "code": "x", "message": "no", "retryable": False},
                wait=None,
                counts_as_retry=False,
                checkpoint=None,
                refs=(),
            )
            for lease in taken
        ]
        leases.record(conn, ends, worker="w")
    return [draft.correlation_id for draft in drafts]


def test_a_tenant_from_its_first_day_to_its_suspension(csbctl: Csbctl) -> None:
    made = csbctl.json("tenant", "create", "acme", "--name", "Acme Ltd")
    assert (made["code"], made["status"]) == ("acme", "active")
    assert csbctl.json("tenant", "list") == [made]
    assert csbctl.json("tenant", "suspend", "acme")["status"] == "suspended"
    assert csbctl.json("tenant", "resume", "acme")["status"] == "active"
    assert "Acme Ltd" in csbctl.text("tenant", "list")
    assert {entry["actor"] for entry in csbctl.json("audit", "list", "--tenant", "acme")} == {
        "grace"
    }


def test_ceilings_are_shown_changed_and_audited(csbctl: Csbctl) -> None:
    csbctl.json("tenant", "create", "acme")
    usual = csbctl.json("tenant", "ceilings", "acme")
    assert usual == {
        "timeout_seconds": 300.0,
        "memory_limit_mb": 512,
        "cpu_limit": 1.0,
        "security_score": 0,
    }
    before = len(csbctl.json("audit", "list", "--tenant", "acme"))
    given = ("--timeout-seconds", "60", "--security-score", "70")
    changed = csbctl.json("tenant", "ceilings", "acme", *given)
    assert changed == {**usual, "timeout_seconds": 60.0, "security_score": 70}
    assert csbctl.json("tenant", "ceilings", "acme") == changed

    trail = csbctl.json("audit", "list", "--tenant", "acme")
    assert len(trail) == before + 1
    assert trail[0]["detail"]["after"]["util_min_security_score"] == 70
    assert csbctl.run("tenant", "ceilings", "acme", "--memory-limit-mb", "1").exit_code == 2


def test_a_key_shows_its_token_once(csbctl: Csbctl) -> None:
    csbctl.json("tenant", "create", "acme")
    made = csbctl.json("key", "create", "acme", "--scope", "admin", "--expires-in", "90d")
    assert keys.TOKEN.fullmatch(made["token"])
    [listed] = csbctl.json("key", "list", "acme")
    assert listed["state"] == "active"
    assert "token" not in listed
    assert made["token"] not in csbctl.text("audit", "list")

    fresh = csbctl.json("key", "rotate", made["key_id"], "--overlap", "1h")
    states = {key["key_id"]: key["state"] for key in csbctl.json("key", "list", "acme")}
    assert states == {
        made["key_id"]: f"replaced by {fresh['key_id']}",
        fresh["key_id"]: "active",
    }
    csbctl.text("key", "revoke", fresh["key_id"])
    assert "revoked" in csbctl.text("key", "list", "acme")
    assert "Keep the token now" in csbctl.text("key", "create", "acme", "--scope", "requests:read")


@pytest.mark.usefixtures("tiny")
def test_registering_an_account_gives_what_its_owner_must_paste(csbctl: Csbctl) -> None:
    csbctl.json("tenant", "create", "acme")
    made = csbctl.json("account", "register", "acme", ACCOUNT, "--principal", "us")
    assert made["role_arn"] == "tiny:CSBExecutor"
    assert made["documents"] == {"Trust": {"who": "us", "if": made["external_id"]}}
    assert made["external_id"].startswith("csb-")

    shown = csbctl.text("account", "show", "acme", ACCOUNT, "--principal", "us")
    assert "Trust:" in shown
    assert made["external_id"] in shown
    csbctl.text("account", "disable", "acme", ACCOUNT)
    assert csbctl.json("account", "list", "acme")[0]["status"] == "disabled"
    csbctl.text("account", "enable", "acme", ACCOUNT)
    assert csbctl.json("account", "list", "acme")[0]["status"] == "active"


def test_an_external_id_is_replaced_when_the_new_one_opens_the_account(
    csbctl: Csbctl, tiny: Callable[..., None]
) -> None:
    csbctl.json("tenant", "create", "acme")
    old = csbctl.json("account", "register", "acme", ACCOUNT)["external_id"]
    begun = csbctl.json("account", "rotate", "acme", ACCOUNT)
    new = begun["new_external_id"]
    assert (begun["external_id"], begun["documents"]["Trust"]["if"]) == (old, [old, new])
    assert new != old

    refused = csbctl.run("account", "rotate", "acme", ACCOUNT, "--finish", new)
    assert (refused.exit_code, "the old ExternalId stays" in refused.stderr) == (1, True)
    assert csbctl.json("account", "list", "acme")[0]["external_id"] == old

    tiny(opened_by=new)
    for _ in range(2):  # who did not see the first answer may ask again
        done = csbctl.json("account", "rotate", "acme", ACCOUNT, "--finish", new)
        assert (done["external_id"], done["documents"]["Trust"]["if"]) == (new, [None, new])
        assert csbctl.json("account", "list", "acme")[0]["external_id"] == new

    trail = csbctl.json("audit", "list", "--tenant", "acme")
    changes = [one for one in trail if one["event"] != "operator.shown"][:3]
    assert [(entry["event"], entry["actor"]) for entry in changes] == [
        ("operator.rotation_finished", "grace"),
        ("csb_target_accounts.update", "grace"),
        ("operator.rotation_begun", "grace"),
    ]
    assert not {old, new} & set(re.findall(r"csb-\w+", csbctl.text("audit", "list")))


def test_only_the_external_id_that_was_made_last_is_put_in(
    csbctl: Csbctl, tiny: Callable[..., None]
) -> None:
    csbctl.json("tenant", "create", "acme")
    first = csbctl.json("account", "register", "acme", ACCOUNT)["external_id"]
    rotate = ("account", "rotate", "acme", ACCOUNT)
    begun = [csbctl.json(*rotate)["new_external_id"] for _ in range(2)]
    for chosen in ("csb-of-somebody-else", first, begun[0]):
        tiny(opened_by=chosen)
        refused = csbctl.run(*rotate, "--finish", chosen)
        assert (refused.exit_code, "begin again" in refused.stderr) == (1, True)

    tiny(opened_by=begun[1])
    assert f"--finish {begun[1]}" not in csbctl.text(*rotate, "--finish", begun[1])
    assert csbctl.run(*rotate, "--finish", first).exit_code == 1  # what was retired stays so
    assert csbctl.run("account", "rotate", "acme", "999988887777").exit_code == 1


def test_the_doctor_is_heard_and_noted(csbctl: Csbctl, tiny: Callable[..., None]) -> None:
    csbctl.json("tenant", "create", "acme")
    csbctl.json("account", "register", "acme", ACCOUNT)
    tiny(Finding(check="enter", verdict="ok", detail="fine"))
    assert csbctl.json("doctor", "acme", ACCOUNT)[0]["verdict"] == "ok"

    tiny(Finding(check="enter", verdict="failed", detail="closed", remedy="open it"))
    result = csbctl.run("doctor", "acme", ACCOUNT)
    assert result.exit_code == 1
    assert "open it" in result.stdout
    newest = csbctl.json("audit", "list", "--limit", "1")[0]
    assert (newest["event"], newest["subject"]) == ("operator.examined", ACCOUNT)
    assert newest["detail"]["verdicts"] == {"failed": 1}


def test_the_doctor_looks_at_this_machine_when_no_account_is_named(
    csbctl: Csbctl, tiny: Callable[..., None]
) -> None:
    tiny(Finding(check="tier", verdict="ok", detail="strong"))
    assert csbctl.json("doctor", "--provider", "tiny")[0]["detail"] == "strong"
    tiny(Finding(check="tier", verdict="failed", detail="none"))
    assert csbctl.run("doctor", "--provider", "tiny").exit_code == 1
    assert csbctl.run("doctor", "acme", ACCOUNT, "more").exit_code == 2


def test_the_doctor_asks_for_the_tenant_only_when_several_have_the_account(
    csbctl: Csbctl, tiny: Callable[..., None]
) -> None:
    tiny(Finding(check="enter", verdict="ok", detail="fine"))
    absent = csbctl.run("doctor", ACCOUNT, "--provider", "tiny")
    assert (absent.exit_code, "registered for no tenant" in absent.stderr) == (1, True)

    csbctl.text("tenant", "create", "acme")
    csbctl.text("account", "register", "acme", ACCOUNT, "--provider", "tiny")
    assert csbctl.json("doctor", ACCOUNT, "--provider", "tiny")[0]["verdict"] == "ok"
    assert csbctl.json("audit", "list", "--limit", "1")[0]["subject"] == ACCOUNT

    csbctl.text("tenant", "create", "globex")
    csbctl.text("account", "register", "globex", ACCOUNT, "--provider", "tiny")
    several = csbctl.run("doctor", ACCOUNT, "--provider", "tiny")
    assert (several.exit_code, "acme or globex" in several.stderr) == (1, True)
    assert csbctl.json("doctor", "globex", ACCOUNT, "--provider", "tiny")[0]["verdict"] == "ok"


def test_what_an_operator_was_shown_of_a_tenants_is_audited(
    csbctl: Csbctl, tiny: Callable[..., None], database: Database
) -> None:
    tiny()
    tenant_id = make_tenant(database.admin, "acme")
    csbctl.text("account", "register", "acme", ACCOUNT, "--provider", "tiny")
    [failed] = _fail(database, tenant_id, 1)
    for command in (
        f"account show acme {ACCOUNT} --provider tiny",
        "account list acme",
        f"request show {failed}",
        "request failed --tenant acme",
    ):
        csbctl.text(*command.split())

    trail = csbctl.json("audit", "list", "--tenant", "acme")
    shown = [(one["subject"], one["actor"]) for one in trail if one["event"] == "operator.shown"]
    subjects = ["failed requests", str(failed), "accounts", ACCOUNT]
    assert shown == [(subject, "grace") for subject in subjects]


def test_a_failed_request_is_replayed_once_by_its_id(
    csbctl: Csbctl, database: Database, redis_url: str
) -> None:
    tenant_id = make_tenant(database.admin, "acme")
    [failed] = _fail(database, tenant_id, 1, client_request_id="INC-1")
    [answer] = csbctl.json("request", "replay", str(failed))
    assert answer["outcome"] == "created"
    assert answer["replay_of"] == str(failed)

    shown = csbctl.json("request", "show", answer["correlation_id"])
    assert (shown["status"], shown["replay_of"], shown["requested_by"]) == (
        "PENDING",
        str(failed),
        "grace",
    )
    assert [entry["event"] for entry in shown["audit"]] == ["created"]
    with redis.Redis.from_url(redis_url) as client:
        [message] = client.lrange("queue:aws", 0, -1)
    assert str(queue.decode(message).correlation_id) == answer["correlation_id"]

    again = csbctl.run("request", "replay", str(failed))
    assert again.exit_code == 1
    assert "replayed" in again.stderr

    with as_tenant(database.api, tenant_id) as conn:
        assert requests.cancel(conn, UUID(answer["correlation_id"]), actor="k")
    [another] = csbctl.json("request", "replay", str(failed))
    assert another["outcome"] == "created"
    assert another["correlation_id"] != answer["correlation_id"]


def test_a_replay_can_be_claimed_by_its_message(
    csbctl: Csbctl, database: Database, redis_url: str
) -> None:
    [failed] = _fail(database, make_tenant(database.admin, "acme"), 1)
    csbctl.json("request", "replay", str(failed))
    with redis.Redis.from_url(redis_url) as client:
        raw = json.loads(client.lrange("queue:aws", 0, -1)[0])
    with psycopg.connect(database.aws, autocommit=True) as conn:
        candidate = Candidate(correlation_id=UUID(raw["correlation_id"]), digest=raw["digest"])
        assert leases.claim(conn, [candidate], worker="w", ttl=timedelta(seconds=9))


def test_failed_requests_are_replayed_by_choice_after_a_question(
    csbctl: Csbctl, database: Database
) -> None:
    ours = make_tenant(database.admin, "acme")
    theirs = make_tenant(database.admin, "globex")
    oldest, *others = _fail(database, ours, 3)
    _fail(database, theirs, 1)
    choice = ("--tenant", "acme", "--error-class", "ACCESS_DENIED", "--since", "1h")
    assert len(csbctl.json("request", "failed", *choice)) == 3
    assert csbctl.json("request", "failed", "--tenant", "acme", "--error-class", "OTHER") == []
    assert csbctl.json("request", "failed", "--tenant", "acme", "--until", "1h") == []

    refused = csbctl.run("request", "replay", *choice, answer="n\n")
    assert refused.exit_code == 1
    assert len(csbctl.json("request", "failed", *choice)) == 3

    [answer] = csbctl.json("request", "replay", *choice, "--limit", "1", "--yes")
    assert answer["replay_of"] == str(oldest)
    assert "Replay these 2?" in csbctl.text("request", "replay", *choice, answer="y\n")
    assert csbctl.json("request", "failed", *choice) == []
    assert csbctl.json("request", "replay", *choice, "--yes") == []

    with psycopg.connect(database.admin) as conn:
        trail = control_audit.latest(conn, tenant_id=ours, limit=100)
    replayed = [entry["subject"] for entry in trail if entry["event"] == "operator.replayed"]
    assert sorted(replayed) == sorted([str(oldest), *map(str, others)])


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["request", "replay", "--json", "--tenant", "acme"], "--yes"),
        (["request", "replay"], "--tenant"),
        (["request", "replay", "01890a5d-ac96-774b-bcce-b302099a8057", "--tenant", "a"], "both"),
        (["tenant", "suspend", "nobody"], "nobody"),
        (["key", "create", "nobody", "--scope", "admin"], "tenant list"),
        (["key", "revoke", "x"], "key list"),
        (["key", "rotate", "x"], "unknown"),
        (["request", "show", "01890a5d-ac96-774b-bcce-b302099a8057"], "01890a5d"),
        (["tenant", "create", "NOT-A-CODE"], "code"),
        (["account", "register", "acme", "1", "--provider", "nowhere"], "nowhere"),
        (["account", "rotate", "acme", "1"], "account list"),
        (["key", "create", "acme", "--scope", "admin", "--expires-in", "0"], "never ends"),
        (["tenant", "suspend", "\udcff"], "UTF-8"),
    ],
)
def test_an_error_names_the_field_or_the_remedy(
    csbctl: Csbctl, database: Database, args: list[str], said: str
) -> None:
    _fail(database, make_tenant(database.admin, "acme"), 1)
    result = csbctl.run(*args)
    assert result.exit_code == 1
    assert said in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("CSB_ADMIN_DATABASE_URL", "csb_admin_user:hunter2@db/csb", "postgresql://USER"),
        ("CSB_ADMIN_DATABASE_URL", "postgresql://u:hunter2@[db/csb", "postgresql://USER"),
        ("CSB_REDIS_URL", "hunter2@redis", "redis://HOST"),
        ("CSB_REDIS_URL", "redis://:p@redis:hunter2/0", "redis://HOST"),
    ],
)
def test_a_malformed_address_is_said_without_what_stands_in_it(
    csbctl: Csbctl, name: str, value: str, said: str
) -> None:
    csbctl.env[name] = value
    result = csbctl.run("queue", "depths")
    assert (result.exit_code, said in result.stderr, "hunter2" in result.output) == (1, True, False)


def test_a_database_that_cannot_be_worked_with_is_told_with_a_remedy(
    csbctl: Csbctl, database: Database
) -> None:
    for url, remedy in (
        (database.admin.rpartition("/")[0] + "/postgres", "migrate.py up"),
        (database.api, "csb_admin_user"),
        (f"{database.admin}?options=-cdefault_transaction_read_only%3Don", "standby"),
    ):
        csbctl.env["CSB_ADMIN_DATABASE_URL"] = url
        result = csbctl.run("tenant", "create", "acme")
        assert (result.exit_code, remedy in result.stderr) == (1, True), result.output


def test_who_has_no_name_on_this_machine_is_known_by_a_number(
    csbctl: Csbctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("getpass.getuser", nameless)
    del csbctl.env["CSB_ACTOR"]
    csbctl.text("tenant", "create", "acme")
    assert csbctl.json("audit", "list")[0]["actor"].startswith("uid-")


def test_an_error_is_json_when_json_was_asked_for(csbctl: Csbctl) -> None:
    result = csbctl.run("tenant", "suspend", "nobody", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stderr)["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["tenant", "create", "--nmae", "acme", "--json"], "No such option"),
        (["tenant", "crate", "acme", "--json"], "No such command"),
        (["--json", "key", "create", "acme", "--scope", "everything"], "everything"),
        (["--actr", "grace", "tenant", "list", "--json"], "No such option"),
    ],
)
def test_a_command_that_is_written_wrongly_is_told_in_json_too(
    csbctl: Csbctl, args: list[str], told: str
) -> None:
    result = csbctl.run(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    fault = json.loads(result.stderr)["error"]
    assert (fault["code"], told in fault["message"]) == ("usage", True)
    plain = csbctl.run(*[arg for arg in args if arg != "--json"])
    assert (plain.exit_code, "Usage: " in plain.stderr) == (2, True)


def test_a_wrong_duration_is_answered_with_a_right_one(csbctl: Csbctl) -> None:
    result = csbctl.run("key", "create", "acme", "--scope", "admin", "--expires-in", "soon")
    assert result.exit_code == 2
    assert "90s, 30m, 12h, 7d" in result.stderr
    beyond = csbctl.run("request", "failed", "--tenant", "acme", "--since", "999999d")
    assert (beyond.exit_code, "36500d" in beyond.stderr) == (2, True)


def test_a_tenants_retention_is_shown_and_changed(csbctl: Csbctl) -> None:
    csbctl.json("tenant", "create", "acme")
    assert csbctl.json("tenant", "retention", "acme")["retention_days"] is None
    assert csbctl.json("tenant", "retention", "acme", "--days", "30")["retention_days"] == 30
    assert csbctl.json("tenant", "list")[0]["retention_days"] == 30
    assert csbctl.json("tenant", "retention", "acme", "--default")["retention_days"] is None
    both = csbctl.run("tenant", "retention", "acme", "--default", "--days", "3")
    assert (both.exit_code, "not both" in both.stderr) == (1, True)


def test_maintenance_makes_room_and_deletes_what_need_not_be_kept(
    csbctl: Csbctl, database: Database
) -> None:
    tenant_id = make_tenant(database.admin, "acme")
    old = [UUID(int=UUID(int=n).int | 0x7 << 76 | 0x8 << 60) for n in range(3)]  # of the year 1970
    for correlation_id in old:
        _fail(database, tenant_id, 1, correlation_id=correlation_id)
    _fail(database, tenant_id, 1)
    with psycopg.connect(database.superuser) as conn:
        conn.execute("SET session_replication_role = replica")
        conn.execute(
            """
            UPDATE csb_app.csb_requests SET finished_at = '2020-01-01'
             WHERE correlation_id = ANY (%s)
            """,
            (old,),
        )

    shown = csbctl.json("maintain", "--dry-run")
    assert [(one["tenant"], one["requests"]) for one in shown["requests"]] == [("acme", 3)]
    assert "acme" in csbctl.text("maintain", "--dry-run")
    again = csbctl.json("maintain", "--dry-run")
    assert again["requests"][0]["requests"] == 3  # it only showed them

    done = csbctl.json("maintain", "--batch", "2")
    assert done == {
        "partitions_made": 0,
        "requests_deleted": {"acme": 3},
        "partitions_dropped": [],
    }
    assert len(csbctl.json("request", "failed", "--tenant", "acme")) == 1
    assert csbctl.json("maintain")["requests_deleted"] == {}
    trail = csbctl.json("audit", "list", "--limit", "2")
    assert [(entry["event"], entry["actor"]) for entry in trail] == [
        ("operator.shown", "grace"),
        ("operator.requests_deleted", "grace"),
    ]


def test_depths_tell_lists_and_rows(csbctl: Csbctl, database: Database, redis_url: str) -> None:
    tenant_id = make_tenant(database.admin)
    with psycopg.connect(database.api, autocommit=True) as conn:
        requests.insert(conn, [make_draft(tenant_id) for _ in range(3)])
    with redis.Redis.from_url(redis_url) as client:
        client.lpush("queue:aws", b"unreadable")
    row, _ = csbctl.json("queue", "depths")  # aws and sandbox
    assert row["provider"] == "aws"
    assert (row["messages"], row["due"], row["delayed"], row["in_progress"]) == (1, 3, 0, 0)
    assert row["oldest_due_seconds"] >= 0
    assert row["queue"] == "up"


def test_depths_are_told_with_redis_down(csbctl: Csbctl) -> None:
    csbctl.env["CSB_REDIS_URL"] = "redis://127.0.0.1:9"
    row, _ = csbctl.json("queue", "depths")  # aws and sandbox
    assert row["messages"] is None
    assert "did not answer" in row["queue"]


def test_a_replay_without_redis_waits_for_the_rescuer(csbctl: Csbctl, database: Database) -> None:
    [failed] = _fail(database, make_tenant(database.admin), 1)
    csbctl.env["CSB_REDIS_URL"] = "redis://127.0.0.1:9"
    assert "rescuer" in csbctl.text("request", "replay", str(failed))


def test_security_events_are_listed(csbctl: Csbctl, database: Database) -> None:
    with psycopg.connect(database.aws, autocommit=True) as conn:
        conn.execute(
            "SELECT csb_app.report_security_event('message_forged', NULL, 'w', '{\"a\": 1}')"
        )
    [event] = csbctl.json("security", "list")
    assert (event["event"], event["detail"]) == ("message_forged", {"a": 1})
    assert csbctl.json("security", "list", "--event", "message_unknown") == []
    assert "message_forged" in csbctl.text("security", "list")


def test_a_database_that_is_away_is_said_without_its_password(csbctl: Csbctl) -> None:
    csbctl.env["CSB_ADMIN_DATABASE_URL"] = "postgresql://csb_admin_user:hunter2@127.0.0.1:9/csb"
    result = csbctl.run("tenant", "list")
    assert result.exit_code == 1
    assert "CSB_ADMIN_DATABASE_URL" in result.stderr
    assert "hunter2" not in result.output


def test_without_a_platform_the_way_to_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    unset = {"CSB_ADMIN_DATABASE_URL": None, "CSB_REDIS_URL": None}
    result = CliRunner().invoke(main, ["tenant", "list"], env=unset)
    assert result.exit_code == 1
    assert "make up" in result.stderr


def test_the_local_platform_is_found_all_or_nothing(tmp_path: Path) -> None:
    file = tmp_path / "csb.env"
    file.write_text("CSB_ADMIN_DATABASE_URL=postgresql://a\nCSB_REDIS_URL=redis://b\nPATH=/x\n")
    environ: dict[str, str] = {}
    settle(environ, file)
    assert environ == {"CSB_ADMIN_DATABASE_URL": "postgresql://a", "CSB_REDIS_URL": "redis://b"}

    named = {"CSB_ADMIN_DATABASE_URL": "postgresql://production"}
    settle(named, file)
    assert named == {"CSB_ADMIN_DATABASE_URL": "postgresql://production"}


def _every_command() -> list[str]:
    verbs = ((noun, getattr(command, "commands", {"": None})) for noun, command in NOUNS.items())
    return [f"{noun} {verb}".strip() for noun, commands in verbs for verb in commands]


@pytest.mark.parametrize("command", _every_command())
def test_every_command_answers_in_json_and_explains_itself(csbctl: Csbctl, command: str) -> None:
    assert "--json" in csbctl.text(*command.split(), "--help")


LOOKS = {
    *("tenant list", "key list", "account list", "account show", "request show", "request failed"),
    *("queue depths", "security list", "audit list", "schema wait"),
}
TRACED_ABOVE = {"request replay", "maintain"}


def test_every_act_leaves_a_trace_under_the_operators_name(
    csbctl: Csbctl, tiny: Callable[..., None]
) -> None:
    traced: set[str] = set()

    def act(*args: str) -> Any:
        before = csbctl.json("audit", "list", "--limit", "1")
        done = csbctl.json(*args)
        after = csbctl.json("audit", "list", "--limit", "1")
        assert after != before, args
        assert after[0]["actor"] == "grace"
        traced.add(" ".join(args[:2]) if args[0] != "doctor" else "doctor")
        return done

    act("tenant", "create", "acme")
    act("tenant", "ceilings", "acme", "--timeout-seconds", "60")
    act("tenant", "retention", "acme", "--days", "30")
    act("tenant", "suspend", "acme")
    act("tenant", "resume", "acme")
    key = act("key", "create", "acme", "--scope", "admin")
    act("key", "revoke", act("key", "rotate", key["key_id"])["key_id"])
    act("account", "register", "acme", ACCOUNT)
    act("account", "disable", "acme", ACCOUNT)
    act("account", "enable", "acme", ACCOUNT)
    act("doctor", "acme", ACCOUNT)
    new = act("account", "rotate", "acme", ACCOUNT)["new_external_id"]
    tiny(opened_by=new)
    act("account", "rotate", "acme", ACCOUNT, "--finish", new)

    assert traced | LOOKS | TRACED_ABOVE == set(_every_command())
