"""Own parts without a fork: modules that a user names, whose stages and layouts join the pipeline.

A plugin is a Python module on the import path. Each of these may stand in it:

- `STAGES`, stage classes by pipeline field. A new field is a stage more; the name of a field that
  is there already replaces its stage by a subclass, such as a CGNet with another loss.
- `DATA`, a list of data stages (subclasses of `occse.stages.data.InPlace`, with a `kind` each).
- A backbone, a class that a knob names: `cgnet.backbone: my_module:MyBackbone`.

Every Python file of a plugin is part of the identity of what its code makes. Where it is in a
package, these are the files of the whole package, because its modules import each other.
"""

import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Union

from pydantic import Field, create_model

from occse.pipeline import Pipeline, pipeline_class, stage_classes, use_pipeline
from occse.stage import PLUGIN_SOURCES, Stage
from occse.stages.data import InPlace

# Names of plugins, separated by commas, for commands that read no sweep file.
VARIABLE = "OCCSE_PLUGINS"


def load_plugins(names: Sequence[str] = ()) -> None:
    """Import the plugins `names` and those of OCCSE_PLUGINS, and use their parts from now on.

    A plugin that this process has loaded is left alone.

    Raises:
        ValueError: there is no such module, its import fails, or a part of it is none; the message
            names the plugin.
    """
    from_environment = os.environ.get(VARIABLE, "").split(",")
    stripped = [name.strip() for name in [*from_environment, *names]]
    for name in dict.fromkeys(stripped):
        if name and name not in PLUGIN_SOURCES:
            _load(name)


def plugin_files() -> list[Path]:
    """Return the file of each loaded plugin, or the folder of its top-level package."""
    return list(dict.fromkeys(_top(sys.modules[name]) for name in PLUGIN_SOURCES))


def _load(name: str) -> None:
    module = _imported(name)
    stages: Mapping[str, type[Stage]] = getattr(module, "STAGES", {})
    layouts: Sequence[type[InPlace]] = getattr(module, "DATA", [])
    for part in [*stages.values(), *layouts]:
        is_stage = isinstance(part, type) and issubclass(part, Stage)
        if not is_stage:
            raise ValueError(
                f"plugin {name}: {part!r} is not a stage; expected a subclass of Stage"
            )
    fields: dict[str, Any] = {field: _field(name, field, stage) for field, stage in stages.items()}
    if layouts:
        fields["data"] = _data(layouts)
    PLUGIN_SOURCES[name] = _digest(module)
    if fields:
        use_pipeline(create_model("PipelineWithPlugins", __base__=pipeline_class(), **fields))


def _imported(name: str) -> ModuleType:
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise ValueError(
            f"plugin {name}: there is no module of that name; expected one in the folder that the "
            "command is started in, or on PYTHONPATH"
        )
    try:
        return importlib.import_module(name)
    except Exception as error:
        # Whatever goes wrong in the user's module, the user has to hear which module it is.
        raise ValueError(f"plugin {name}: {type(error).__name__}: {error}") from error


def _field(name: str, field: str, stage: type[Stage]) -> tuple[Any, Any]:
    """Return type and default of a pipeline field that holds `stage`."""
    known = pipeline_class().model_fields.get(field)
    if known is None:
        return stage, stage()
    (before,) = stage_classes(field)
    extends = issubclass(stage, before)
    if not extends:
        raise ValueError(
            f"plugin {name}: STAGES[{field!r}] is {stage.__name__}, expected a subclass of "
            f"{before.__name__}, which {field} holds; a stage beside it needs a field of its own"
        )
    # The values of this field, not of the class: the CRFs are one class at three alphas.
    default = stage(**known.default.model_dump())
    annotation: Any = stage
    for mark in known.metadata:
        annotation = Annotated[annotation, mark]
    return annotation, Field(default=default, title=known.title)


def _data(layouts: Sequence[type[InPlace]]) -> tuple[Any, Any]:
    classes = (*stage_classes("data"), *layouts)
    default = Pipeline.model_fields["data"].default
    return Union[classes], Field(default=default, discriminator="kind")  # noqa: UP007


def _top(module: ModuleType) -> Path:
    """Return the file of a top-level module, or the folder of the package that `module` is in.

    Raises:
        ValueError: the module has no file.
    """
    if module.__file__ is None:
        raise ValueError(f"plugin {module.__name__}: it has no file, so its code is not known")
    path = Path(module.__file__)
    if path.stem == "__init__":
        path = path.parent
    # `a.b.c` lies two folders below that of `a`, whether or not these have an `__init__.py`.
    for _ in range(module.__name__.count(".")):
        path = path.parent
    return path


def _digest(module: ModuleType) -> str:
    """Return the SHA-256 over the Python files of a plugin: its own, or those of its package."""
    top = _top(module)
    paths = sorted(top.rglob("*.py")) if top.is_dir() else [top]
    digest = hashlib.sha256()
    for path in paths:
        # The name and a zero byte part the files: moving text from one to the next is a change.
        digest.update(f"{path.relative_to(top.parent)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
