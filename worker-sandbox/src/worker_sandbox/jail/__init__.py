"""The programs that prepare jails and run in them; standard library only."""

from __future__ import annotations
