"""What the worker execs as the zygote: `python -I -S -E boot.py CONTROL`.

The interpreter is isolated, so our package is not on its path; it is registered by hand, and
nothing that lies beside it can be imported.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def _find_ourselves() -> None:
    package = Path(__file__).resolve().parent.parent
    spec = importlib.util.spec_from_file_location(
        package.name, package / "__init__.py", submodule_search_locations=[str(package)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[package.name] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    _find_ourselves()
    from worker_sandbox.jail import zygote

    zygote.main(int(sys.argv[1]))
