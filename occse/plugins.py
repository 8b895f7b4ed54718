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
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Union

from pydantic import Field, PydanticUserError, ValidationError, create_model

from occse.pipeline import DATA, STAGES, Pipeline, pipeline_class, stage_classes, use_pipeline
from occse.stage import PLUGIN_SOURCES, Stage
from occse.stages.data import InPlace

# Names of plugins, separated by commas, for commands that read no sweep file.
VARIABLE = "OCCSE_PLUGINS"
# A field is the first part of the names of its knobs.
FIELD = re.compile(r"[a-z][a-z0-9_]*")


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
    try:
        pipeline = _extended(module)
        digest = _digest(module)
    # Those of pydantic, on a knob whose type does not exist or that has no default.
    except (ValueError, TypeError, PydanticUserError) as error:
        # pydantic adds a link to its documentation.
        raise ValueError(f"plugin {name}: {str(error).splitlines()[0]}") from error
    PLUGIN_SOURCES[name] = digest
    if pipeline is not pipeline_class():
        use_pipeline(pipeline)


def _extended(module: ModuleType) -> type[Pipeline]:
    """Return the pipeline in use with the parts of a plugin.

    Raises:
        ValueError: a part is none, or has a name that is taken.
    """
    stages: Mapping[str, type[Stage]] = getattr(module, "STAGES", {})
    layouts: Sequence[type[InPlace]] = getattr(module, "DATA", [])
    if not isinstance(stages, Mapping) or not isinstance(layouts, list | tuple):
        raise ValueError(  # noqa: TRY004 - bad input as any other
            "STAGES or DATA is of another kind; expected STAGES = {'field': StageClass} and "
            "DATA = [DataClass]"
        )
    for parts, base in ((stages.values(), Stage), (layouts, InPlace)):
        for part in parts:
            is_stage = isinstance(part, type) and issubclass(part, base)
            if not is_stage:
                raise ValueError(f"{part!r} is not a stage; expected a subclass of {base.__name__}")
    fields: dict[str, Any] = {field: _field(field, stage) for field, stage in stages.items()}
    if layouts:
        fields["data"] = _data(layouts)
    known = {*pipeline_class().model_fields, *fields}
    for field, stage in stages.items():
        if missing := sorted(set(stage.may_need) - known):
            raise ValueError(
                f"STAGES[{field!r}] needs {missing[0]!r}, which is no field of the pipeline; "
                f"expected {', '.join(sorted(known))}"
            )
    if not fields:
        return pipeline_class()
    return create_model("PipelineWithPlugins", __base__=pipeline_class(), **fields)


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
    except (Exception, SystemExit) as error:
        # Whatever goes wrong in the user's module, the user has to hear which module it is.
        last = traceback.extract_tb(error.__traceback__)[-1]
        # A syntax error names its own line; the last one here is that of the import system.
        at = "" if isinstance(error, SyntaxError) else f" ({last.filename}:{last.lineno})"
        raise ValueError(f"plugin {name}: {type(error).__name__}: {error}{at}") from error


def _field(field: str, stage: type[Stage]) -> tuple[Any, Any]:
    """Return type and default of a pipeline field that holds `stage`."""
    known = pipeline_class().model_fields.get(field)
    if known is None:
        _check_new(field, stage)
        return stage, _default(stage)
    before, *_ = stage_classes(field)
    extends = issubclass(stage, before)
    if not extends:
        raise ValueError(
            f"STAGES[{field!r}] is {stage.__name__}, expected a subclass of {before.__name__} of "
            f"{before.__module__}, which {field} holds; a stage beside it needs a field of its own"
        )
    # The values of this field, not of the class: the CRFs are one class at three alphas.
    default = stage(**known.default.model_dump())
    annotation: Any = stage
    for mark in known.metadata:
        annotation = Annotated[annotation, mark]
    return annotation, Field(default=default, title=known.title)


def _default(stage: type[Stage]) -> Stage:
    try:
        return stage()
    except ValidationError as error:
        knobs = ", ".join(str(fault["loc"][0]) for fault in error.errors())
        raise ValueError(
            f"{stage.__name__} has no default, or a wrong one, for {knobs}; expected a value that "
            "is allowed for each knob"
        ) from None


def _check_new(field: str, stage: type[Stage]) -> None:
    """Raise ValueError if a field or its class has a name that cannot be, or that is taken."""
    if not FIELD.fullmatch(field) or hasattr(Pipeline, field):
        raise ValueError(
            f"STAGES has {field!r}; expected a name of small letters, digits and underscores, "
            "other than those of methods"
        )
    taken = STAGES.get(stage.__name__)
    # Artifacts lie in a folder of this name, and their identity has it.
    if taken is not None and taken is not stage:
        raise ValueError(
            f"STAGES[{field!r}] is a class of the name {stage.__name__}, which is that of "
            f"{taken.__module__}; expected another name"
        )


def _data(layouts: Sequence[type[InPlace]]) -> tuple[Any, Any]:
    for layout in layouts:
        kind = layout.model_fields["kind"].default if "kind" in layout.model_fields else None
        if not isinstance(kind, str) or kind in DATA or layout.__name__ in STAGES:
            raise ValueError(
                f"DATA has {layout.__name__} of the kind {kind!r}; expected a name and a kind of "
                f"its own (kind: Literal['mine'] = 'mine'), other than {', '.join(DATA)}"
            )
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
