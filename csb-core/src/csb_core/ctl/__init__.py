"""csbctl, the operators' command: one module per noun, each a group of verbs."""

from __future__ import annotations

from csb_core.ctl.command import main

__all__ = ["main"]
