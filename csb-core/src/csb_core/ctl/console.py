"""How csbctl speaks: aligned text for people, JSON for programs when they ask with --json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click
import orjson

from csb_core.models import Json


@dataclass(slots=True)
class Console:
    """What every command is given: who acts, and how to show."""

    as_json: bool = False
    actor: str = "unknown"

    def show(self, thing: Mapping[str, Any]) -> None:
        """Show one thing, a field a line."""
        if self.as_json:
            click.echo(_dumped(thing))
            return
        width = max((len(name) for name in thing), default=0)
        for name, value in thing.items():
            click.echo(f"{name:<{width}}  {_cell(value)}")

    def table(self, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
        """Show many things, one a line; people see `columns` only, programs all."""
        rows = list(rows)
        if self.as_json:
            click.echo(_dumped(rows))
            return
        if not rows:
            click.echo("nothing to show")
            return
        cells = [list(columns), *([_cell(row.get(name)) for name in columns] for row in rows)]
        widths = [max(len(line[n]) for line in cells) for n in range(len(columns))]
        for line in cells:
            padded = (text.ljust(width) for text, width in zip(line, widths, strict=True))
            click.echo("  ".join(padded).rstrip())

    def say(self, text: str = "") -> None:
        """Tell people something that programs read elsewhere."""
        if not self.as_json:
            click.echo(text)

    def document(self, title: str, document: Json) -> None:
        """Show people a JSON document to be copied."""
        self.say(f"\n{title}:")
        self.say(_dumped(document))


def _cell(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.isoformat(timespec="seconds")
        case float():
            return f"{value:.1f}"
        case list() | tuple():
            return ",".join(_cell(item) for item in value)
    return orjson.dumps(value).decode() if isinstance(value, dict) else str(value)


def _dumped(value: Any) -> str:
    return orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2).decode()


def _json_option() -> click.Option:
    """Let every command take --json; the root has looked for it already."""
    return click.Option(["--json"], is_flag=True, expose_value=False, help="Answer in JSON.")


class Command(click.Command):
    """A verb; it takes --json like all others."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_json_option())


class Group(click.Group):
    """A noun; --json may stand before its verb as well."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(_json_option())


Group.group_class = Group

pass_console = click.make_pass_decorator(Console, ensure=True)
