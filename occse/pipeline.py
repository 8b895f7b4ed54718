"""The pipeline: one field per stage, and the plan of the artifacts that follows from its knobs."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from occse.stage import ScoredSplit, Stage, fingerprint
from occse.stages.affinity import TrainAffinity
from occse.stages.cam import MakeCam
from occse.stages.cams import ReadCams
from occse.stages.cgnet import TrainCGNet
from occse.stages.crf import RefineCam
from occse.stages.data import Coco, DataStage, Folder, InPlace, Shapes, Voc
from occse.stages.deeplab import TrainSegmentation
from occse.stages.erase_and_infer import EraseAndInfer
from occse.stages.oc import TrainClassifier
from occse.stages.pretrain import Pretrain
from occse.stages.pseudo import MakePseudoLabels
from occse.stages.seg import Segment
from occse.stages.trained import TrainedStage, is_file, locate, with_digest

TARGETS = ("crf", "seg")
# Raised when a reader of an older `pipeline.json` would misread a newer one.
FACTS_VERSION = 1


@dataclass(frozen=True)
class Auxiliary:
    """Mark of a pipeline field that repeats a stage only to feed another one.

    Its artifact has scores like any of its class, but they are no column of a table and no gate.
    """


AUXILIARY = Auxiliary()


class Pipeline(BaseModel):
    """The whole method, classifier to segmentation.

    The defaults are the official code's, the profile `reference`, but for a ResNet-50 with
    torchvision's weights, a real momentum and the rest that `python -m occse explain reference`
    prints.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # By `kind`: without the discriminator an error would list the faults of all four layouts.
    data: Annotated[Shapes | Voc | Coco | Folder, Field(discriminator="kind")] = Voc()
    pretrain: Pretrain = Pretrain()
    oc: TrainClassifier = TrainClassifier()
    cgnet: TrainCGNet = TrainCGNet()
    cams: ReadCams = ReadCams()
    cam: MakeCam = MakeCam()
    crf: RefineCam = RefineCam(alpha=10)
    crf_low: Annotated[RefineCam, AUXILIARY, Field(title="CRF at the low alpha")] = RefineCam(
        alpha=4
    )
    crf_high: Annotated[RefineCam, AUXILIARY, Field(title="CRF at the high alpha")] = RefineCam(
        alpha=24
    )
    affinity: TrainAffinity = TrainAffinity()
    pseudo: MakePseudoLabels = MakePseudoLabels()
    deeplab: TrainSegmentation = TrainSegmentation()
    seg: Segment = Segment()
    erase_and_infer: EraseAndInfer = EraseAndInfer()

    @model_validator(mode="after")
    def _backbones_agree(self) -> "Pipeline":
        for field in type(self).model_fields:
            stage = self.stage(field)
            init = getattr(stage, "init", None)
            # Only an upstream classifier is the field of a stage; other words are no field.
            if not isinstance(stage, TrainedStage) or init not in ("pretrain", "oc"):
                continue
            upstream = getattr(self, init).backbone
            if stage.backbone != upstream:
                raise ValueError(
                    f"{field}.init is {init!r}, whose backbone is {upstream!r}, "
                    f"but {field}.backbone is {stage.backbone!r}: make them equal, "
                    f"or set {field}.init to 'imagenet' or 'random'"
                )
        return self

    def resolve(self, data_root: Path | None, weights: Path | None = None) -> "Pipeline":
        """Return the pipeline with the digests of the user's data, CAMs and weight files.

        So other files are another identity.

        Raises:
            ValueError: `data_root` is not a data set of the kind that `data` expects; or the folder
                `weights` lacks a file or a folder that a stage names.
        """
        fields = type(self).model_fields
        stages = {field: with_digest(self.stage(field), weights) for field in fields}
        if isinstance(self.data, InPlace) and data_root is not None:
            data = self.data.resolved(data_root)
            # The data's digest has no pixels of `val`: of all results `seg` alone rests on them.
            stages |= {"data": data, "seg": self.seg.resolved(data, data_root)}
        return self.model_copy(update=stages)

    def stage(self, field: str) -> Stage:
        """Return the stage in `field`."""
        stage: Stage = getattr(self, field)
        return stage


AnyPipeline = TypeVar("AnyPipeline", bound=Pipeline)
STAGES: dict[str, type[Stage]] = {}
"""Every stage class of the pipeline in use, by its name."""
DATA: dict[str, type[Stage]] = {}
"""The data stages of the pipeline in use, by their `kind`."""
# A list of one, which `use_pipeline` can change without `global`.
_in_use: list[type[Pipeline]] = []


def use_pipeline(pipeline: type[Pipeline]) -> None:
    """Make `pipeline`, a subclass with further fields, the pipeline of this process."""
    _in_use[:] = [pipeline]
    for field in pipeline.model_fields:
        STAGES.update({stage.__name__: stage for stage in stage_classes(field)})
    DATA.update({stage.model_fields["kind"].default: stage for stage in stage_classes("data")})


def pipeline_class() -> type[Pipeline]:
    """Return the pipeline in use: `Pipeline`, or the subclass that `use_pipeline` was given."""
    return _in_use[0]


def stage_classes(field: str) -> tuple[type[Stage], ...]:
    """Return the classes that `field` of the pipeline may hold: one, or one per data layout."""
    # pydantic keeps the marks of `Annotated` elsewhere: only a union of classes has arguments here.
    annotation: Any = pipeline_class().model_fields[field].annotation
    return get_args(annotation) or (annotation,)


def scored_fields() -> tuple[str, ...]:
    """Return the fields whose scores are a result of their own, in the order of the pipeline."""
    return tuple(
        field
        for field, info in pipeline_class().model_fields.items()
        if AUXILIARY not in info.metadata and stage_classes(field)[0].scored_split
    )


def pipeline_facts(pipeline: Pipeline) -> dict[str, Any]:
    """Return what platform and analysis must know of the stages, as JSON values.

    The sweep's parent run keeps it as `pipeline.json`, so that `analysis` needs no import of
    `occse`. `stages` is in the order of the pipeline; each has

    - `field`, and the name of the stage's `class`;
    - `needs`: the fields that it can read, whatever the knobs;
    - `scored_split`: "train", "val", or None where its scores are no result of their own;
    - `display_name`: its name in tables and figures;
    - `effort`: the knobs that decide how long it takes;
    - `seeded`: true if it draws random numbers from a knob `seed`.
    """
    scored = scored_fields()
    stages = []
    for field, info in pipeline_class().model_fields.items():
        stage = type(pipeline.stage(field))
        stages.append(
            {
                "field": field,
                "class": stage.__name__,
                "needs": list(stage.may_need),
                "scored_split": stage.scored_split if field in scored else None,
                "display_name": info.title or stage.display_name or field.replace("_", " "),
                "effort": sorted(stage.effort),
                "seeded": "seed" in stage.model_fields,
            }
        )
    return {"version": FACTS_VERSION, "stages": stages}


use_pipeline(Pipeline)


@dataclass(frozen=True, kw_only=True)
class Node:
    """One artifact of a plan: the stage, the fingerprints of its inputs by field, and its own."""

    field: str
    stage: Stage
    inputs: Mapping[str, str]
    fingerprint: str

    @property
    def kind(self) -> str:
        """Name of the stage's class."""
        return type(self.stage).__name__

    def dump(self) -> dict[str, Any]:
        """Return the node as JSON values, for a process that does not import the stages."""
        return {
            "field": self.field,
            "kind": self.kind,
            "config": self.stage.model_dump(mode="json"),
            "inputs": dict(self.inputs),
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def load(cls, values: Mapping[str, Any]) -> "Node":
        """Return the node that `dump` wrote.

        Raises:
            ValueError: the code here gives it another fingerprint than the code that dumped it.
        """
        stage = STAGES[values["kind"]].model_validate(values["config"])
        here = fingerprint(stage, values["inputs"])
        if here != values["fingerprint"]:
            raise ValueError(
                f"{values['field']} has the fingerprint {values['fingerprint']} on the driver "
                f"and {here} here: the two run different code"
            )
        return cls(field=values["field"], stage=stage, inputs=values["inputs"], fingerprint=here)


def check_files(nodes: Iterable[Node], weights: Path | None) -> None:
    """Read every weight file that a stage starts from, before hours are spent on other stages.

    Raises:
        ValueError: the folder `weights` lacks one, or one is damaged, or does not fit the stage's
            backbone; the message names the stage.
    """
    # by file and backbone, since thousands of variants may start from the same file
    fields: dict[tuple[str, str], str] = {}
    for node in nodes:
        init = getattr(node.stage, "init", "")
        if isinstance(node.stage, TrainedStage) and is_file(init):
            fields.setdefault((init, node.stage.backbone), node.field)
    if not fields:
        return
    # Imported here: it needs torch, and a plan without weight files does not.
    from occse.weights.load import check_fit

    for (init, backbone), field in fields.items():
        try:
            check_fit(locate(init, weights), backbone)
        except ValueError as error:
            raise ValueError(f"{field}.init: {error}") from None


def plan(
    pipeline: Pipeline,
    *,
    targets: Sequence[str] = TARGETS,
    known: dict[tuple[str, ...], Node] | None = None,
) -> dict[str, Node]:
    """Return the artifacts that `targets` need, by field, upstream first.

    Args:
        pipeline: the stages.
        targets: the last stages to reach.
        known: nodes of pipelines that share stage objects with this one; it is looked up and added
            to, because most of a plan's time goes into fingerprints.

    Raises:
        ValueError: a target is not a field of the pipeline, or a stage cannot run with these knobs.
    """
    nodes: dict[str, Node] = {}
    known = {} if known is None else known

    def visit(field: str) -> str:
        if field not in nodes:
            stage = pipeline.stage(field)
            inputs = {need: visit(need) for need in stage.needs()}
            # A node keeps its stage alive, so that no other stage can have the same id.
            key = (field, str(id(stage)), *inputs.values())
            if key not in known:
                known[key] = Node(
                    field=field, stage=stage, inputs=inputs, fingerprint=fingerprint(stage, inputs)
                )
            nodes[field] = known[key]
        return nodes[field].fingerprint

    fields = type(pipeline).model_fields
    for target in targets:
        if target not in fields:
            raise ValueError(
                f"no stage {target!r} in the pipeline; its stages are {', '.join(fields)}"
            )
        visit(target)
    _check(nodes)
    return nodes


def _check(nodes: Mapping[str, Node]) -> None:
    """Let each stage of a plan state its faults.

    Raises:
        ValueError: there are some; the message names fields and knobs.
    """
    faults: list[str] = []
    for field, upstream in _upstream(nodes).items():
        found = nodes[field].stage.faults(upstream)
        faults += [f"{field}: {fault}" for fault in found]
    if faults:
        raise ValueError("; ".join(faults))


def doubts(nodes: Mapping[str, Node]) -> list[str]:
    """Return the reasons for which results of a plan may be useless, as lines for people."""
    lines: list[str] = []
    for field, upstream in _upstream(nodes).items():
        lines += [f"{field}: {doubt}" for doubt in nodes[field].stage.doubts(upstream)]
    for split in get_args(ScoredSplit):
        fields = unscored_fields(nodes, split)
        if fields:
            lines.append(
                f"data: no image of {split} has a mask, so {', '.join(fields)} will have no score"
            )
    return lines


def unscored_fields(nodes: Mapping[str, Node], split: ScoredSplit) -> list[str]:
    """Return the fields of a plan whose score `split` decides, if no image of it has a mask."""
    data = nodes["data"].stage if "data" in nodes else None
    if not isinstance(data, DataStage) or data.num_scored_images(split) != 0:
        return []
    scored = scored_fields()
    return [
        field
        for field, node in nodes.items()
        if field in scored and type(node.stage).scored_split == split
    ]


def _upstream(nodes: Mapping[str, Node]) -> dict[str, dict[str, Stage]]:
    """Return every stage that each node rests on, by field; `nodes` are upstream first."""
    found: dict[str, dict[str, Stage]] = {}
    for field, node in nodes.items():
        found[field] = {}
        for need in node.inputs:
            found[field] |= {need: nodes[need].stage, **found[need]}
    return found


def override(pipeline: AnyPipeline, overrides: Mapping[str, Any]) -> AnyPipeline:
    """Return `pipeline` with other knobs.

    A key is dotted, such as `cgnet.lr`, and `*` in it stands for any text (`*.seed`). Later keys
    win over earlier ones. A change of `data.kind` starts from that data's defaults.

    Raises:
        ValueError: a key matches no knob, or a value is not allowed; the message names the key.
    """
    values: dict[str, dict[str, Any]] = pipeline.model_dump()
    origin: dict[str, str] = {}
    # First of all: the keys may name knobs that only the new layout has.
    if overrides.get("data.kind", pipeline.data.kind) != pipeline.data.kind:
        values["data"] = _defaults_of_data(overrides["data.kind"])
    knobs: list[str] = []
    for field, stage in values.items():
        knobs += [f"{field}.{knob}" for knob in stage]
    for pattern, value in overrides.items():
        # Not `fnmatch`, which ignores the case of letters on some systems.
        matches = [knob for knob in knobs if fnmatchcase(knob, pattern)]
        if not matches:
            raise ValueError(f"override {pattern!r} matches no knob; {_nearest(pattern, knobs)}")
        for match in matches:
            field, knob = match.split(".")
            values[field][knob] = value
            origin[match] = pattern
    try:
        return type(pipeline).model_validate(values)
    except ValidationError as error:
        raise ValueError("; ".join(_explain(error, origin))) from None


def default_pipeline(profile_name: str | None = None) -> Pipeline:
    """Return the pipeline in use with its defaults, or with the knobs of a profile.

    Raises:
        ValueError: there is no such profile.
    """
    pipeline = pipeline_class()()
    return pipeline if profile_name is None else override(pipeline, profile(profile_name))


def profile_names() -> list[str]:
    """Return the names of the profiles, the YAML files in `occse/profiles`."""
    folder = files("occse") / "profiles"
    names = [entry.name for entry in folder.iterdir()]
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def profile(name: str) -> dict[str, Any]:
    """Return the overrides of the profile `name`, a YAML file in `occse/profiles`.

    Its key `profile` names the profile that it starts from.

    Raises:
        ValueError: there is no such profile.
    """
    known = profile_names()
    if name not in known:
        raise ValueError(f"no profile {name!r}; the profiles are {', '.join(known)}")
    text = (files("occse") / "profiles" / f"{name}.yaml").read_text()
    overrides: dict[str, Any] = yaml.safe_load(text)
    start = overrides.pop("profile", None)
    return profile(start) | overrides if start else overrides


def _defaults_of_data(kind: object) -> dict[str, Any]:
    if not isinstance(kind, str) or kind not in DATA:
        raise ValueError(
            f"data.kind: {kind!r} is not allowed; expected {', '.join(map(repr, DATA))}"
        )
    return DATA[kind]().model_dump()


def _nearest(pattern: str, knobs: Sequence[str]) -> str:
    near = difflib.get_close_matches(pattern, knobs, n=3, cutoff=0.4)
    if near:
        return f"the nearest are {', '.join(near)}"
    return f"the stages are {', '.join(pipeline_class().model_fields)}"


def _explain(error: ValidationError, origin: Mapping[str, str]) -> Iterator[str]:
    for item in error.errors():
        # pydantic puts the kind of the data into the place of a fault: ("data", "voc", "labels").
        location = [str(part) for part in item["loc"] if part not in DATA]
        knob = ".".join(location[:2])
        key = origin.get(knob, knob)
        message = item["msg"].removeprefix("Value error, ")
        # A rule over several knobs names their values itself.
        if item["type"] != "value_error":
            message += f", got {item['input']!r}"
        if key != knob:
            message += f" (for {knob})"
        yield f"{key}: {message}" if key else message
