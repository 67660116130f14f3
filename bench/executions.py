"""Utils executed end to end: over HTTP, through both stores, each in a fresh jail of its own."""

from __future__ import annotations

from typing import Final

from bench import cpu, load, sandbox
from bench.load import Load
from bench.ours import request_bytes
from bench.scene import Reading, Scene, numbers
from bench.sizes import FULL
from bench.yardsticks.side import Side
from csb_core.testing import make_util

_CODE: Final = "def transform(data):\n    return {'seen': data}\n"
_INPUT: Final = {"ips": ["192.0.2.1", "198.51.100.7"], "score": 7.5}
#: Enough to keep every jail busy, and few enough that nobody waits long.
_CONNECTIONS: Final = 16


def executions(scene: Scene) -> Reading:
    """Executions a second whose callers wait for the result in the same call."""
    util_id = make_util(scene.platform.urls.api, scene.platform.tenant_id, _CODE)
    path = f"/api/v1/utils/{util_id}/execute?wait=30"
    with scene.sandbox():
        answered = load.run(
            Load(
                port=scene.api.port,
                request=request_bytes(scene, "POST", path, {"input": _INPUT}),
                expect="200",
                must='"exit_reason":"ok"',
                connections=_CONNECTIONS,
                warm=scene.sizes.warm,
                window=scene.sizes.window,
                first=numbers(),
            ),
            scene.meter(),
        )
    return Reading(
        figures={"executed_per_s": answered.per_second},
        cpu={"execution": cpu.per_unit(answered.before, answered.after, max(1, answered.count))},
    )


def jails(side: Side) -> Reading:
    """The sandbox by itself beside cold starts of the same job; see `bench.sandbox`."""
    told = sandbox.measure(sandbox.FULL if side.sizes.window >= FULL.window else sandbox.QUICK)
    figures: dict[str, float] = {}
    for name, value in told.items():
        if isinstance(value, dict):
            figures |= {f"{name}_{share}": number for share, number in value.items()}
        elif isinstance(value, int | float) and name != "load_before":
            figures[name] = value
    return Reading(figures=figures)
