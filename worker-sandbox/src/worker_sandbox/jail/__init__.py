"""The programs that prepare jails and run in them: standard library only, nothing of ours outside."""

from __future__ import annotations
