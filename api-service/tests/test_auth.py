"""Who may call: every route asks for a key and its scope; a revoked key is soon refused."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import product
from typing import Any

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient

from api_service.app import deps_of
from api_service.auth import Scope
from api_service.route import Route
from api_service.routes import ROUTES
from csb_core import keys
from csb_core.testing import Database, make_payload

URL = "/api/v1/requests"
WITH_KEY = [route for route in ROUTES if route.scope is not Scope.PUBLIC]


def call(client: FlaskClient, route: Route, **headers: str) -> Any:
    path = re.sub("<[a-z_]+_id>", "01a20335-867c-74b7-9425-e55595a1e70a", route.path)
    path = path.replace("<number>", "1")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.open(path, method=route.method, headers=named, json={} if route.body else None)


def test_app_has_no_route_but_those_of_the_table(app: Flask) -> None:
    registered = {
        (rule.rule, method)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD"}
    }
    assert registered == {(route.path, route.method) for route in ROUTES}
    public = {route.path for route in ROUTES if route.scope is Scope.PUBLIC}
    assert public == {"/health", "/ready"}


def test_every_route_asks_for_a_key(app: Flask) -> None:
    client = app.test_client()
    wrong = {
        "none": {},
        "empty": {"X_Auth_Token": ""},
        "malformed": {"X_Auth_Token": "let me in"},
        "unknown": {"X_Auth_Token": keys.new_token()},
        "unknown bearer": {"Authorization": f"Bearer {keys.new_token()}"},
        "basic": {"Authorization": "Basic dTpw"},
        "different": {
            "X_Auth_Token": keys.new_token(),
            "Authorization": f"Bearer {keys.new_token()}",
        },
    }
    for route, (kind, headers) in product(WITH_KEY, wrong.items()):
        answered = call(client, route, **headers)
        assert answered.status_code == 401, (route.name, kind)
        assert answered.get_json()["code"] == "unauthenticated"
        assert "Bearer" in answered.headers["WWW-Authenticate"]


def test_every_route_asks_for_its_scope(app: Flask, new_tenant: Callable[..., Any]) -> None:
    client = app.test_client()
    granted = {scope.value for scope in Scope} - {"public", "any", "admin"}
    without = {scope: new_tenant(*granted - {scope.value}) for scope in Scope}
    admin = new_tenant("admin")

    for route in WITH_KEY:
        refused = call(client, route, X_Auth_Token=without[route.scope].token)
        allowed = call(client, route, Authorization=f"bearer {admin.token}")

        if route.scope is Scope.ANY_KEY:
            assert refused.status_code == 200, route.name
        else:
            assert refused.status_code == 403, route.name
            assert route.scope.value in refused.get_json()["detail"]
        assert allowed.status_code not in {401, 403}, route.name


def test_token_and_bearer_are_equals(app: Flask, tenant: Any) -> None:
    client = app.test_client()
    bearer = f"Bearer {tenant.token}"
    for headers in (
        {"X-Auth-Token": tenant.token},
        {"Authorization": bearer},
        {"X-Auth-Token": tenant.token, "Authorization": bearer},
    ):
        assert client.get(URL, headers=headers).status_code == 200


def test_revocation_is_effective_within_five_seconds(
    client: FlaskClient, database: Database, tenant: Any
) -> None:
    assert client.get(URL).status_code == 200
    with psycopg.connect(database.admin) as conn:
        conn.execute(
            "UPDATE csb_app.csb_api_keys SET revoked_at = now() WHERE key_id = %s",
            (keys.key_id_of(tenant.token),),
        )
    revoked = time.monotonic()
    while client.get(URL).status_code == 200:
        assert time.monotonic() - revoked < 5
        time.sleep(0.1)


def test_expiry_is_looked_at_each_time(
    client: FlaskClient, database: Database, tenant: Any
) -> None:
    with psycopg.connect(database.admin) as conn:
        conn.execute(
            """
            UPDATE csb_app.csb_api_keys SET expires_at = now() + interval '1 second'
             WHERE key_id = %s
            """,
            (keys.key_id_of(tenant.token),),
        )
    assert client.get(URL).status_code == 200
    time.sleep(1.1)
    assert client.get(URL).status_code == 401


def test_new_key_is_known_a_second_after_it_was_not(
    app: Flask, database: Database, tenant: Any
) -> None:
    client, token = app.test_client(), keys.new_token()
    assert client.get(URL, headers={"X-Auth-Token": token}).status_code == 401
    with psycopg.connect(database.admin) as conn:
        conn.execute(
            "UPDATE csb_app.csb_api_keys SET digest = %s WHERE key_id = %s",
            (keys.token_digest(token), keys.key_id_of(tenant.token)),
        )
    time.sleep(1.1)
    assert client.get(URL, headers={"X-Auth-Token": token}).status_code == 200


def test_use_is_written_down(
    app: Flask, client: FlaskClient, database: Database, tenant: Any
) -> None:
    client.get(URL)
    assert deps_of(app).keyring.note_use() == 1
    assert deps_of(app).keyring.note_use() == 0
    with psycopg.connect(database.admin) as conn:
        row = conn.execute(
            "SELECT last_used_at FROM csb_app.csb_api_keys WHERE key_id = %s",
            (keys.key_id_of(tenant.token),),
        ).fetchone()
    assert row is not None
    assert row[0] is not None


def test_without_postgresql_known_keys_last_a_moment(
    client: FlaskClient,
    client_of: Callable[..., FlaskClient],
    new_tenant: Callable[..., Any],
    postgres_away: Callable[[], AbstractContextManager[None]],
) -> None:
    stranger = client_of(new_tenant())
    url = client.post(URL, json=make_payload()).headers["Location"]
    assert client.get(url).status_code == 200
    with postgres_away():
        assert client.get(url).status_code == 200  # key and status are both remembered
        refused = stranger.get(url)
    assert refused.status_code == 503
    assert "Retry-After" in refused.headers


def test_token_is_never_told_or_logged(
    client: FlaskClient, tenant: Any, caplog: pytest.LogCaptureFixture
) -> None:
    secret = tenant.token.rpartition("_")[2]
    texts = [
        client.get(URL, headers={"X-Auth-Token": tenant.token + "x"}).text,
        client.post(URL, json={"action": tenant.token}).text,
        client.get(f"{URL}?cursor={tenant.token}").text,
        caplog.text,
    ]
    assert not any(secret in text for text in texts)
