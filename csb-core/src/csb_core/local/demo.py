"""The demonstration: real requests over HTTP, watched to their ends."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from csb_core.errors import ConfigurationError
from csb_core.local import util_demo
from csb_core.local.client import Client, Unanswered
from csb_core.local.scenes import Scene, scenes, undoing
from csb_core.local.screen import Screen
from csb_core.states import FINAL

PATIENCE: Final = timedelta(seconds=60)
REQUESTS: Final = "/api/v1/requests"


def run(values: Mapping[str, str], root: Path) -> int:
    """Show every scene; 0 when each ended as it must, 1 when one did not.

    `root` is the clone: its example utils are loaded on the way.
    """
    if "CSB_DEMO_ACCOUNT" not in values or "AWS_ENDPOINT_URL" not in values:
        raise ConfigurationError("the demonstration acts in the local AWS only: unset CSB_AWS")
    screen = Screen.of_terminal()
    api = Client(url=values["CSB_URL"], headers={"X-Auth-Token": values["CSB_TOKEN"]})
    control = Client(url=values["AWS_ENDPOINT_URL"])
    account, user = values["CSB_DEMO_ACCOUNT"], values["CSB_DEMO_USER"]

    _begin_anew(screen, api, control, account, user)
    played = [
        _play(screen, api, control, scene, number)
        for number, scene in enumerate(scenes(account, user), start=1)
    ]
    utils = util_demo.prepare(screen, api, root)
    played += util_demo.play(screen, api, utils, number=len(played) + 1)
    _tell_how_to_go_on(screen, values)
    util_demo.how_to_go_on(screen, values, utils)

    if all(played):
        screen.line(f"all {len(played)} requests ended as they should")
        return 0
    screen.line(screen.paint(f"{played.count(False)} did not end as they should", "FAILED"))
    return 1


def _begin_anew(screen: Screen, api: Client, control: Client, account: str, user: str) -> None:
    """Take back what an earlier demonstration has left."""
    control.delete("/_csb/faults")
    receipts = [api.post(REQUESTS, body) for body in undoing(account, user)]
    for receipt in receipts:
        _await_end(api, receipt["links"]["self"])
    screen.line(screen.paint(f"the platform is up at {api.url}", "bold"))


def _play(screen: Screen, api: Client, control: Client, scene: Scene, number: int) -> bool:
    """Show one request on its way; say whether it ended as it must."""
    screen.line()
    screen.line(screen.paint(f"{number}. {scene.title}", "bold"))
    if scene.fault:
        control.post("/_csb/faults", dict(scene.fault))

    began = time.monotonic()
    receipt = api.post(REQUESTS, dict(scene.body))
    screen.line(f"   POST {REQUESTS} -> 202  {receipt['correlation_id']}")
    trail = _watch(screen, api, receipt)
    took = (time.monotonic() - began) * 1000
    request = api.get(receipt["links"]["self"])
    screen.line(f"  after {took:.0f} ms, attempt {request['attempt']}")

    _show_end(screen, request)
    for entry in trail:
        screen.audit(entry)
    if not scene.ending.meets(request):
        screen.line(screen.paint(f"   expected {scene.ending}", "FAILED"))
        return False
    return True


def _watch(screen: Screen, api: Client, receipt: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Write each status as the trail gains it, until the last; return the trail."""
    shown: list[str] = []
    deadline = time.monotonic() + PATIENCE.total_seconds()
    screen.part("  ")
    while True:
        trail: list[dict[str, Any]] = api.get(receipt["links"]["audit"])["items"]
        moves = [entry["to_status"] for entry in trail if entry["to_status"]]
        for status in moves[len(shown) :]:
            screen.part(f"{' ->' if shown else ''} {screen.status(status)}")
            shown.append(status)
        if shown[-1] in FINAL or time.monotonic() > deadline:
            return trail
        time.sleep(0.01)


def _show_end(screen: Screen, request: Mapping[str, Any]) -> None:
    if request["error"]:
        error = request["error"]
        screen.line(f"   {error['class']} ({error['code']}): {error['message']}")
    if request["changed"] is not None:
        screen.line(f"   changed: {str(request['changed']).lower()}")
    if request["dry_run"] and request["result"]:
        screen.line(f"   plan: {request['result'].get('plan')}")


def _await_end(api: Client, link: str) -> None:
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while api.get(f"{link}?wait=20")["status"] not in FINAL:
        if time.monotonic() > deadline:
            raise Unanswered(f"{link} has not ended after {PATIENCE.total_seconds():.0f} s")


def _tell_how_to_go_on(screen: Screen, values: Mapping[str, str]) -> None:
    url, token = values["CSB_URL"], values["CSB_TOKEN"]
    body = (
        f'{{"cloud_provider": "aws", "action": "attach_policy", '
        f'"account_id": "{values["CSB_DEMO_ACCOUNT"]}", '
        f'"principal": {{"type": "user", "name": "{values["CSB_DEMO_USER"]}"}}, '
        f'"parameters": {{"policy_arn": "arn:aws:iam::aws:policy/ReadOnlyAccess"}}}}'
    )
    screen.line(f"""
{screen.paint("It is yours now, and stays up until you call make down.", "bold")}

  URL    {url}
  token  {token}

  curl -s {url}{REQUESTS} -H 'X-Auth-Token: {token}' -H 'Content-Type: application/json' \\
    -d '{body}'
  curl -s '{url}{REQUESTS}?limit=5' -H 'X-Auth-Token: {token}'
  curl -s {url}/ready
""")
