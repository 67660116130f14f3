"""What one start of the platform leaves to the next: ports, passwords, tokens, choices."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Mapping
from pathlib import Path

from csb_core.errors import ConfigurationError
from csb_core.local import ports, private_file


class Memory:
    """A few named texts in one private file, written at each change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}

    def get(self, name: str) -> str | None:
        """What was remembered under this name."""
        return self._values.get(name)

    def put(self, name: str, value: str) -> None:
        """Remember, in place of what was there."""
        if self._values.get(name) != value:
            self._values[name] = value
            private_file.write(self._path, json.dumps(self._values, indent=2) + "\n")

    def secret(self, name: str) -> str:
        """A random text that is made once."""
        value = self.get(name) or secrets.token_hex(24)
        self.put(name, value)
        return value

    def port(
        self,
        name: str,
        variable: str,
        environ: Mapping[str, str],
        *,
        held: bool,
        others: Collection[int] = (),
    ) -> int:
        """The port of a program: set by `variable`, or as last time, or a free one.

        It is none of `others`, and not remembered yet: the next may be refused. `held` says that
        the program runs, so what it has is rightly taken.
        Raises ConfigurationError when the port that was set is no port or somebody else's.
        """
        before = int(self.get(f"port.{name}") or 0)
        wanted = environ.get(variable)
        port = _parsed(variable, wanted) if wanted else before
        mine = (held and port == before) or (port and ports.is_free(port))
        if port in others or not mine:
            if wanted:
                taker = "another of our programs" if port in others else "something else"
                raise ConfigurationError(
                    f"{variable}={port}: {taker} listens there; set another, or unset it"
                )
            port = ports.free_port(besides=others)
        return port


def _parsed(variable: str, text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise ConfigurationError(f"{variable}={text!r} is no port: give a number from 1 to 65535")
    return int(text)
