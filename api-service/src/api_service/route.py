"""What one line of the table of routes says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from flask import Response

from api_service.auth import Scope
from api_service.parameters import Parameter

#: Called as view(deps, call, **path), or view(deps) where the scope is PUBLIC.
View = Callable[..., Response]

BODY_FAULTS: Final = (400, 408, 413, 415, 422)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path.

    `answers` maps each good status to the definition in schema.json of its document; `refuses` are
    the statuses of problems besides those that every route with a key can give. An alias is a
    second path to the same view, for clients that know it by that name.
    """

    method: str
    path: str
    scope: Scope
    view: View
    summary: str
    answers: Mapping[int, str | None]
    refuses: tuple[int, ...] = ()
    body: str | None = None
    parameters: tuple[Parameter, ...] = ()
    cost: int = 1
    tag: str = "requests"
    is_alias: bool = False

    @property
    def name(self) -> str:
        """The endpoint's and the operation's name."""
        return f"{self.view.__name__}_by_alias" if self.is_alias else self.view.__name__

    def at(self, path: str) -> Route:
        """Return the alias of this route at another path."""
        return replace(self, path=path, is_alias=True)
