"""What a caller says of a util, with our defaults, within its tenant's ceilings: or every fault."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from csb_core.faults import Fault, Invalid
from csb_core.models import Json
from csb_core.pins import limits_of
from csb_core.util_models import About, Ceilings, Content, Util, UtilVersion
from csb_core.value_schema import Allowance, ValueSchema, compiled

_PARAMETERS: Final[Json] = {"input_schema": {}, "output_schema": {}, "dependencies": []}
_CONFIG: Final[Json] = {"timeout_seconds": 30.0, "memory_limit_mb": 128, "cpu_limit": 1.0}
_LABEL: Final = "1.0.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A util as it is to become: all of a version but what the validator makes of it."""

    kind: str
    code: str
    parameters: Json
    execution_config: Json
    test_cases: list[Json]
    label: str

    def content(self, validation: Json) -> Content:
        """Return it as a version's content."""
        return Content(
            code=self.code,
            parameters=self.parameters,
            execution_config=self.execution_config,
            validation=validation,
            test_cases=self.test_cases,
            label=self.label,
        )


def default_limits(ceilings: Ceilings) -> Json:
    """Return the limits of a util that names none: our defaults, where the tenant may have them."""
    return {name: min(value, getattr(ceilings, name)) for name, value in _CONFIG.items()}


def about_of(body: Json, util: Util | None = None) -> About:
    """Return what a util is known by; what is not said stays as `util` has it."""
    metadata = body.get("metadata", {})
    return About(
        name=body.get("name", util.name if util else "util"),
        description=body.get("description", util.description if util else ""),
        category=metadata.get("category", util.category if util else None) or None,
        tags=tuple(metadata.get("tags", util.tags if util else ())),
    )


def said_of(body: Json, ceilings: Ceilings) -> Said:
    """Return what a new util is made of."""
    return Said(
        kind=body["kind"],
        code=body["code"],
        parameters={**_PARAMETERS, **body.get("parameters", {})},
        execution_config=_config(default_limits(ceilings), body),
        test_cases=body.get("test_cases", []),
        label=body.get("metadata", {}).get("version", _LABEL),
    )


def said_anew(body: Json, util: Util, latest: UtilVersion) -> Said:
    """Return what the next version is made of; what is not said stays as it is."""
    return Said(
        kind=body.get("kind", util.kind),
        code=body.get("code", latest.code),
        parameters={**latest.parameters, **body.get("parameters", {})},
        execution_config=_config(latest.execution_config, body),
        test_cases=body.get("test_cases", latest.test_cases),
        label=body.get("metadata", {}).get("version", latest.label or _LABEL),
    )


def _config(before: Json, body: Json) -> Json:
    return asdict(limits_of({**before, **body.get("execution_config", {})}))


def differs(said: Said, latest: UtilVersion) -> bool:
    """Whether what was said needs a version of its own."""
    return (
        said.code != latest.code
        or said.parameters != latest.parameters
        or said.execution_config != latest.execution_config
        or said.test_cases != latest.test_cases
        or said.label != (latest.label or _LABEL)
    )


def require_sound(said: Said, ceilings: Ceilings, *, most_code_bytes: int) -> None:
    """Raise Invalid with everything that is wrong beside the code itself."""
    faults: list[Fault] = []
    if len(said.code.encode()) > most_code_bytes:
        message = f"code holds more than {most_code_bytes} bytes."
        faults.append(Fault(pointer="/code", message=message))
    faults += _above(said.execution_config, ceilings)
    schemas = {}
    for name in ("input_schema", "output_schema"):
        try:
            schemas[name] = compiled(said.parameters[name], f"/parameters/{name}")
        except Invalid as exc:
            faults += exc.faults
    allowance = Allowance()
    faults += _unfit(said.test_cases, "input", schemas.get("input_schema"), allowance)
    faults += _unfit(said.test_cases, "expected", schemas.get("output_schema"), allowance)
    if faults:
        raise Invalid(faults)


def _above(config: Json, ceilings: Ceilings) -> Iterator[Fault]:
    for name in _CONFIG:
        ceiling = getattr(ceilings, name)
        if config[name] > ceiling:
            message = f"{name} is above your tenant's ceiling of {ceiling:g}."
            yield Fault(pointer=f"/execution_config/{name}", message=message)


def _unfit(
    cases: Sequence[Any], part: str, schema: ValueSchema | None, allowance: Allowance
) -> Iterator[Fault]:
    """Give what is wrong with the test cases: they must fit the schemas that every run must fit."""
    if schema is not None:
        for index, case in enumerate(cases):
            yield from schema.faults(case[part], f"/test_cases/{index}/{part}", allowance=allowance)
