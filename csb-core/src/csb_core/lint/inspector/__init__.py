"""The inspector: the program that reads a util's source in a process of its own.

Only the standard library, only imports of its siblings: it runs as `inspector`, outside csb_core.
"""

from __future__ import annotations
