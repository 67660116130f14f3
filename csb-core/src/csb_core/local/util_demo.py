"""The demonstration of utils: one is refused, some are run, some meet their jail's limits."""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from csb_core.local import examples
from csb_core.local.client import Client
from csb_core.local.screen import Screen
from csb_core.local.util_loading import UTILS, load
from csb_core.local.util_scenes import NAUGHTY, REFUSED, UtilScene, util_scenes
from csb_core.states import FINAL

#: Lines of a value that are shown.
LINES: Final = 6
WIDTH: Final = 110


def prepare(screen: Screen, api: Client, root: Path) -> dict[str, str]:
    """See to it that the examples are there; return the id of each by name."""
    began = time.monotonic()
    utils = load(api, [*examples.read(root), *NAUGHTY])
    took = time.monotonic() - began
    screen.line()
    screen.line(
        screen.paint(f"{len(utils)} utils are there, their test cases green", "bold")
        + f"  ({took:.1f} s)"
    )
    return utils


def play(screen: Screen, api: Client, utils: Mapping[str, str], *, number: int) -> list[bool]:
    """Show every scene, from this number on; say which ended as they must."""
    played = [_refusal(screen, api, number)]
    for place, scene in enumerate(util_scenes(), start=number + 1):
        played.append(_execution(screen, api, scene, utils[scene.util], place))
    return played


def _refusal(screen: Screen, api: Client, number: int) -> bool:
    _title(screen, number, "a util that the validator refuses, with its reasons")
    problem = api.refused(UTILS, dict(REFUSED))
    screen.line(f"   POST {UTILS} -> {problem['status']}  {problem['detail']}")
    findings = problem.get("errors", [])
    for finding in findings:
        place = f"{finding.get('line', '-')}:{finding.get('col', '-')}"
        text = f"{place:>6}  {finding.get('rule', '')}  {finding['message']}"
        screen.line(f"      {textwrap.shorten(text, WIDTH, placeholder=' ...')}")
    if problem["status"] == 422 and findings:
        return True
    screen.line(screen.paint("   expected 422 with findings", "FAILED"))
    return False


def _execution(screen: Screen, api: Client, scene: UtilScene, util_id: str, number: int) -> bool:
    _title(screen, number, f"{scene.title} ({scene.util})")
    path = f"{UTILS}/{util_id}/execute"
    began = time.monotonic()
    execution = api.post(f"{path}?wait=20", {"input": scene.input})
    while execution["status"] not in FINAL:
        execution |= api.get(f"/api/v1/requests/{execution['correlation_id']}?wait=20")
    took = (time.monotonic() - began) * 1000
    screen.line(f"   POST {path} -> {screen.status(execution['status'])} after {took:.0f} ms")

    _show(screen, execution)
    trail = api.get(f"/api/v1/requests/{execution['correlation_id']}/audit")["items"]
    for entry in trail:
        screen.audit(entry)
    if not scene.ending.meets(execution):
        screen.line(screen.paint(f"   expected {scene.ending}", "FAILED"))
        return False
    return True


def _show(screen: Screen, execution: Mapping[str, Any]) -> None:
    if execution["error"]:
        error = execution["error"]
        screen.line(f"   {error['class']} ({error['code']}): {error['message']}")
    result = execution["result"] or {}
    if result.get("value") is not None:
        shown = json.dumps(result["value"], ensure_ascii=False)
        lines = textwrap.wrap(shown, WIDTH)
        for line in lines[:LINES]:
            screen.line(f"      {line}")
        if len(lines) > LINES:
            screen.line(f"      ... {len(lines) - LINES} lines more")
    if result:
        sandbox = result["sandbox"]
        screen.line(
            f"   {result['exit_reason']}: {result['wall_ms']:.0f} ms,"
            f" {result['memory_peak_kb'] / 1024:.0f} MiB, tier {sandbox['tier']}"
        )


def _title(screen: Screen, number: int, title: str) -> None:
    screen.line()
    screen.line(screen.paint(f"{number}. {title}", "bold"))


def how_to_go_on(screen: Screen, values: Mapping[str, str], utils: Mapping[str, str]) -> None:
    """Say what somebody can do with utils now, in lines that work as they stand."""
    url, token = values["CSB_URL"], values["CSB_TOKEN"]
    headers = f"-H 'X-Auth-Token: {token}' -H 'Content-Type: application/json'"
    body = {
        "name": "hello",
        "description": "Greets whoever it is given.",
        "kind": "transformer",
        "code": 'def transform(data):\n    return {"greeting": "Hello " + data["name"]}\n',
    }
    screen.line(f"""  Utils: those with the tag ioc, a run of one of them, and one of your own

  curl -s '{url}{UTILS}?tag=ioc' -H 'X-Auth-Token: {token}'
  curl -s '{url}{UTILS}/{utils["ioc_extract"]}/execute?wait=10' {headers} \\
    -d '{{"input": {{"text": "see hxxp://evil[.]example/"}}}}'
  curl -s {url}{UTILS} {headers} \\
    -d '{json.dumps(body)}'
""")
