"""docs/utils.md: whoever follows it meets the answers that it promises."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient

from api_service.auth import Scope
from api_service.errors import PROBLEMS
from api_service.routes_of_utils import UTIL_ROUTES
from csb_core.contract import load
from csb_core.testing import ROOT, Database

PAGE = (ROOT / "docs" / "utils.md").read_text(encoding="utf-8")
CALL = re.compile(
    r"""^curl\ -s(?:\ -X\ (?P<method>[A-Z]+))?\ "\$CSB_URL(?P<path>[^"]+)"
        (?:\ -H\ "[^"]+")+(?:\ -d\ '(?P<body>[^']*)')?\ \ \#\ (?P<status>\d{3})$""",
    re.MULTILINE | re.VERBOSE,
)


@pytest.fixture
def worker(database: Database, run: Callable[..., None]) -> Iterator[None]:
    """Somebody who ends every request of the sandbox."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.1):
            with psycopg.connect(database.superuser) as conn:
                waiting = conn.execute(
                    "SELECT correlation_id FROM csb_app.csb_requests WHERE status = 'PENDING'"
                ).fetchall()
            for (correlation_id,) in waiting:
                run(str(correlation_id), {})

    thread = threading.Thread(target=work)
    thread.start()
    yield
    ended.set()
    thread.join()


@pytest.mark.usefixtures("worker")
def test_page_can_be_followed(client: FlaskClient) -> None:
    calls = list(CALL.finditer(PAGE))
    assert len(calls) == PAGE.count("curl -s") == 7
    known = {"util": "", "id": ""}
    for call in calls:
        path = call["path"].replace("$util", known["util"]).replace("$id", known["id"])
        method = call["method"] or ("POST" if call["body"] else "GET")
        body = json.loads(call["body"]) if call["body"] else None
        answered = client.open(path, method=method, json=body)
        assert answered.status_code == int(call["status"]), (path, answered.text)
        document = answered.get_json()
        known["util"] = document.get("util_id", known["util"])
        known["id"] = document.get("execution_id", known["id"])
    assert client.get(f"/api/v1/requests/{known['id']}").get_json()["status"] == "SUCCESS"


def test_page_shows_a_valid_request() -> None:
    for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL):
        assert load().check(json.loads(block))


def test_page_names_every_field_scope_and_reason() -> None:
    shapes = load().document["$defs"]
    for name in ("CreateUtilRequest", "UtilResponse", "ExecutionResponse"):
        for field in shapes[name]["properties"]:
            assert re.search(rf"[`{{ .]{field}\b", PAGE), f"{name}.{field}"
    for field in shapes["ExecutionConfig"]["properties"]:
        assert f"`execution_config.{field}`" in PAGE
    for scope in (Scope.UTILS_READ, Scope.UTILS_WRITE, Scope.UTILS_EXECUTE, Scope.ADMIN):
        assert f"`{scope.value}`" in PAGE
    for route in UTIL_ROUTES:
        last = route.path.rpartition("/")[2]
        assert route.is_alias or last.startswith("<") or last in PAGE, route.path


def test_page_tells_no_code_that_there_is_not() -> None:
    known = {kind.code for kind in _all(*PROBLEMS)}
    told = set(re.findall(r"^\| \d{3} `([a-z_]+)`", PAGE, re.MULTILINE))
    assert told <= known, told - known


def _all(*kinds: type[Any]) -> Iterator[type[Any]]:
    for kind in kinds:
        yield kind
        yield from _all(*kind.__subclasses__())


def test_page_tells_every_exit_reason() -> None:
    outcomes = pytest.importorskip("worker_sandbox.outcomes")
    told = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| `?([A-Z_-]+)`? \|", PAGE, re.MULTILINE))
    assert told == {"ok": "-"} | {reason: error for reason, (error, _) in outcomes.ERRORS.items()}
