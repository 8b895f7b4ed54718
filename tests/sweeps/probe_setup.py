"""Run at the start of every Ray worker of the tests: where the stages are imported, the probe joins
them.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Sequence

PIPELINE = "occse.pipeline"


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def exec_module(self, module: types.ModuleType) -> None:
        self._loader.exec_module(module)
        importlib.import_module("probe_stages")


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != PIPELINE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None
        assert spec.loader is not None
        spec.loader = _Loader(spec.loader)
        return spec


def setup() -> None:
    """Only the workers that run stages import them, and torch; the coordinators and the actor stay
    light.
    """
    sys.meta_path.insert(0, _Finder())
