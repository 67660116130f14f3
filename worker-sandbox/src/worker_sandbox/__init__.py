"""The sandbox worker: it runs the code of users, each execution in a jail of its own."""

from __future__ import annotations
