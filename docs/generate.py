"""Writes the tables that are drawn from the code into their pages, so that they tell nothing else.

    python docs/generate.py            write them all
    python docs/generate.py --check    say which pages are stale; 1 when one is

A page has the prose; the lines between `<!-- begin X -->` and `<!-- end X -->` are written here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import sizing
from prometheus_client.metrics import MetricWrapperBase
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from csb_core import config, metrics
from csb_core.lint.rulebook import rulebook
from csb_core.states import FINAL, MOVES, Status
from worker_sandbox.settings import JailSettings, SandboxWorkerSettings
from worker_service_aws.settings import AwsSettings

HERE = Path(__file__).resolve().parent


def chart() -> str:
    """The moves, as mermaid draws them."""
    lines = [f"    [*] --> {Status.PENDING}: created (api)"]
    lines += [
        f"    {origin} --> {target}: {meaning} ({mover})"
        for (origin, target), (mover, meaning) in MOVES.items()
    ]
    lines += [f"    {status} --> [*]" for status in Status if status in FINAL]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def states() -> str:
    """Each state with the comment that stands above it."""
    meanings = dict(_comments("csb-core/src/csb_core/states.py", "class Status"))
    return _table(("State", "Meaning"), [(f"`{s}`", meanings[s]) for s in Status])


def metric_names() -> str:
    """Every metric, those that are read at the scrape last."""
    declared = [_metric(metric) for metric in metrics.declared()]
    scraped = [
        (f"`{family.name}`", family.type, _labelled(family.name), family.documentation)
        for family in metrics.QueueCollector(list).collect()
    ]
    return _table(("Name", "Kind", "Labels", "Meaning"), [*declared, *scraped])


def settings_of(kind: type[BaseSettings], base: type[BaseSettings] | None = None) -> str:
    """The variables that a class reads, without those that its base reads in the same way."""
    known = variables(base) if base else {}
    rows = [
        (f"`{variable}`", _default(info), _limits(info), info.description or "")
        for variable, info in variables(kind).items()
        if variable not in known or known[variable].default != info.default
    ]
    return _table(("Variable", "Default", "Limits", "Meaning"), rows)


def variables(kind: type[BaseSettings]) -> dict[str, FieldInfo]:
    """Return the variables that a class reads, with what it says of them."""
    prefix = kind.model_config.get("env_prefix", "")
    return {
        str(_first(info.validation_alias) or f"{prefix}{name}".upper()): info
        for name, info in kind.model_fields.items()
    }


def lint_rules() -> str:
    """The validator's rules, family by family."""
    book = rulebook()
    rows = [
        (f"`{rule.id}`", rule.severity, str(rule.weight), rule.title, _cell(rule.explanation),
         _cell(rule.remedy))
        for family in book.families
        for rule in book.rules.values()
        if rule.id.rstrip("0123456789") == family
    ]  # fmt: skip
    return _table(("Rule", "Severity", "Weight", "What", "Why", "Instead"), rows)


def lint_families() -> str:
    """What the letters of a rule stand for."""
    book = rulebook()
    return _table(("Family", "About"), [(f"`{f}`", about) for f, about in book.families.items()])


def lint_modules() -> str:
    """What a util may import from the standard library, and what of it."""
    lists = rulebook().lists
    modules, members = lists["modules"], lists["members"]
    rows = [
        ("every util", _names(modules["both"])),
        ("a script besides", _names(modules["script"])),
        *((f"of `{module}` only", _names(sorted(names))) for module, names in members.items()),
    ]
    return _table(("Who", "What"), rows)


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _cell(text: str) -> str:
    """A text that stands in a table as it is."""
    return re.sub(r"([_*|<>`])", r"\\\1", text.replace("\n", " "))


def _first(alias: Any) -> Any:
    return alias.choices[0] if hasattr(alias, "choices") else alias


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "must be set"
    if info.default is None:
        return "-"
    value = info.default
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _limits(info: FieldInfo) -> str:
    if info.annotation is SecretStr:
        return "secret"
    if get_origin(info.annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(info.annotation))
    bounds = [
        f"{symbol} {getattr(rule, name)}"
        for rule in info.metadata
        for name, symbol in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
        if getattr(rule, name, None) is not None
    ]
    return ", ".join(bounds) or "-"


def _metric(metric: MetricWrapperBase) -> tuple[str, ...]:
    family = next(iter(metric.describe()))
    name = f"{family.name}_total" if family.type == "counter" else family.name
    labels = ", ".join(f"`{label}`" for label in metric._labelnames)  # noqa: SLF001
    return f"`{name}`", family.type, labels or "-", family.documentation


def _labelled(name: str) -> str:
    return "-" if name == "csb_queue_up" else "`provider`"


def _comments(path: str, after: str) -> Iterator[tuple[str, str]]:
    """Give each `NAME = ...` of a class with the `#:` comment that stands above it."""
    text = (HERE.parent / path).read_text(encoding="utf-8").split(after, 1)[1]
    comment = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("#:"):
            comment = f"{comment} {line.removeprefix('#:').strip()}".strip()
        elif comment and " = " in line:
            yield line.split(" = ", 1)[0], comment
            comment = ""
        elif line.startswith("class "):
            return


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def table_of(found: Callable[[], tuple[tuple[str, ...], Sequence[tuple[str, ...]]]]) -> str:
    """What another module has found, as a table."""
    return _table(*found())


PAGES: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "states.md": {"chart": chart, "states": states},
    "metrics.md": {"metrics": metric_names},
    "validation.md": {
        "families": lint_families,
        "rules": lint_rules,
        "modules": lint_modules,
    },
    "sizing.md": {
        "costs": lambda: table_of(sizing.costs),
        "rates": lambda: table_of(sizing.rates),
        "room": lambda: table_of(sizing.room),
        "examples": lambda: table_of(sizing.examples),
        "presets": lambda: table_of(sizing.presets),
    },
    "configuration.md": {
        "every service": lambda: settings_of(config.Settings),
        "the API": lambda: settings_of(config.ApiSettings, config.Settings),
        "every worker": lambda: settings_of(config.WorkerSettings, config.Settings),
        "the AWS worker": lambda: settings_of(AwsSettings),
        "the sandbox worker": lambda: settings_of(SandboxWorkerSettings, config.WorkerSettings),
        "the sandbox": lambda: settings_of(JailSettings),
    },
}


def fresh(page: str) -> str:
    """Return the page as it should be; raises ValueError when it lacks a pair of marks."""
    text = (HERE / page).read_text(encoding="utf-8")
    for name, write in PAGES[page].items():
        begin, end = f"<!-- begin {name} -->\n", f"\n<!-- end {name} -->"
        if begin not in text or end.strip() not in text:
            raise ValueError(f"docs/{page} has no {begin.strip()} ... {end.strip()}")
        before, rest = text.split(begin, 1)
        after = rest.split(end.lstrip("\n"), 1)[1]
        text = f"{before}{begin}{write()}{end}{after}"
    return text


def stale() -> list[str]:
    """Return the pages that tell something else than the code."""
    return [page for page in PAGES if (HERE / page).read_text(encoding="utf-8") != fresh(page)]


def main() -> int:
    """Write the pages, or with --check only compare them."""
    if "--check" in sys.argv[1:]:
        for page in stale():
            sys.stderr.write(f"docs/{page} is stale: run `make docs`\n")
        return 1 if stale() else 0
    for page in stale():
        (HERE / page).write_text(fresh(page), encoding="utf-8")
        sys.stdout.write(f"wrote docs/{page}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
