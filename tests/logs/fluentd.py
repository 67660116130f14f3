"""Reads Fluentd's configuration as the chart has it: sections, parameters, the environment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

_OPENS: Final = re.compile(r"<(\w+)(?: ([^>]*))?>")
_FROM_ENVIRONMENT: Final = re.compile(r"#\{ENV\['(\w+)'\]\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One `<name argument>` with what it says, and with the sections inside."""

    name: str
    argument: str = ""
    said: dict[str, str] = field(default_factory=dict)
    inside: list[Section] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """The plugin."""
        return self.said["@type"]

    def all(self, *names: str) -> list[Section]:
        """The sections inside that have one of these names, in their order."""
        return [section for section in self.inside if section.name in names]

    def one(self, name: str, argument: str | None = None) -> Section:
        """The only section inside of this name, and argument."""
        (found,) = (section for section in self.all(name) if argument in (None, section.argument))
        return found

    def settings(self) -> dict[str, str]:
        """What is said, without what every plugin may say of itself."""
        return {name: value for name, value in self.said.items() if not name.startswith("@")}


def read(text: str, environment: Mapping[str, str]) -> Section:
    """Return the whole file as one section; raises KeyError for a variable that is not set."""
    whole = Section(name="file")
    _fill(whole, iter(text.splitlines()), environment)
    return whole


def _fill(section: Section, lines: Iterator[str], environment: Mapping[str, str]) -> None:
    for line in map(str.strip, lines):
        if not line or line.startswith("#"):
            continue
        if line == f"</{section.name}>":
            return
        if opened := _OPENS.fullmatch(line):
            inner = Section(name=opened[1], argument=opened[2] or "")
            section.inside.append(inner)
            _fill(inner, lines, environment)
        else:
            name, _, value = line.partition(" ")
            section.said[name] = _value(value.strip(), environment)
    if section.name != "file":
        raise ValueError(f"<{section.name}> is not closed")


def _value(text: str, environment: Mapping[str, str]) -> str:
    """A text in double quotes is Ruby's: of that, only the environment is known here."""
    if not (len(text) > 1 and text.startswith('"') and text.endswith('"')):
        return text
    value = _FROM_ENVIRONMENT.sub(lambda found: environment[found[1]], text[1:-1])
    if "#{" in value or "\\" in value:
        raise ValueError(f"more Ruby than is known here: {text}")
    return value
