"""`python -m csb_core.ctl` is csbctl."""

from __future__ import annotations

from csb_core.ctl.command import main

if __name__ == "__main__":
    main()
