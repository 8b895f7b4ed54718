"""The pipeline: one field per stage, what it needs, and the plan of the artifacts that follows."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from occse.stage import Stage, fingerprint
from occse.stages.affinity import TrainAffinity
from occse.stages.cam import MakeCam
from occse.stages.cgnet import TrainCGNet
from occse.stages.crf import RefineCam
from occse.stages.data import Coco, Folder, InPlace, Shapes, Voc
from occse.stages.deeplab import TrainSegmentation
from occse.stages.erase_and_infer import EraseAndInfer
from occse.stages.oc import TrainClassifier
from occse.stages.pretrain import Pretrain
from occse.stages.pseudo import MakePseudoLabels
from occse.stages.seg import Segment
from occse.stages.trained import is_file, locate, with_digest
from occse.weights.read import read_weights

DATA = {stage.model_fields["kind"].default: stage for stage in (Shapes, Voc, Coco, Folder)}
STAGES: dict[str, type[Stage]] = {
    stage.__name__: stage
    for stage in (
        *DATA.values(),
        Pretrain,
        TrainClassifier,
        TrainCGNet,
        MakeCam,
        RefineCam,
        TrainAffinity,
        MakePseudoLabels,
        TrainSegmentation,
        Segment,
        EraseAndInfer,
    )
}
SCORED = ("cam", "crf", "pseudo", "seg", "erase_and_infer")
TARGETS = ("crf", "seg")


class Pipeline(BaseModel):
    """The whole method, classifier to segmentation.

    The defaults are the official code's, the profile `reference`, but for a ResNet-50 with
    torchvision's weights, a real momentum and what else `python -m occse explain reference` prints.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Annotated[Shapes | Voc | Coco | Folder, Field(discriminator="kind")] = Voc()
    pretrain: Pretrain = Pretrain()
    oc: TrainClassifier = TrainClassifier()
    cgnet: TrainCGNet = TrainCGNet()
    cam: MakeCam = MakeCam()
    crf: RefineCam = RefineCam(alpha=10)
    crf_low: RefineCam = RefineCam(alpha=4)
    crf_high: RefineCam = RefineCam(alpha=24)
    affinity: TrainAffinity = TrainAffinity()
    pseudo: MakePseudoLabels = MakePseudoLabels()
    deeplab: TrainSegmentation = TrainSegmentation()
    seg: Segment = Segment()
    erase_and_infer: EraseAndInfer = EraseAndInfer()

    @model_validator(mode="after")
    def _backbones_agree(self) -> "Pipeline":
        for field in ("oc", "cgnet", "affinity", "deeplab"):
            stage = getattr(self, field)
            if (
                stage.init in ("pretrain", "oc")
                and stage.backbone != getattr(self, stage.init).backbone
            ):
                raise ValueError(
                    f"{field}.init is {stage.init!r}, whose backbone is {getattr(self, stage.init).backbone!r}, "
                    f"but {field}.backbone is {stage.backbone!r}: make them equal, or set {field}.init to "
                    "'imagenet' or 'random'"
                )
        return self

    def resolve(self, data_root: Path | None, weights: Path | None = None) -> "Pipeline":
        """The same pipeline with the digests of the user's data and weight files: other files are
        another identity.

        Raises:
            ValueError: `data_root` is not a data set of the kind that `data` expects; or the folder
                `weights` lacks a file that a stage names.
        """
        stages = {field: with_digest(self.stage(field), weights) for field in Pipeline.model_fields}
        if isinstance(self.data, InPlace) and data_root is not None:
            stages["data"] = self.data.resolved(data_root)
        return self.model_copy(update=stages)

    def stage(self, field: str) -> Stage:
        """The stage in `field`."""
        stage: Stage = getattr(self, field)
        return stage


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
        """The node as JSON values, for a process that has no need to import the stages."""
        return {
            "field": self.field,
            "kind": self.kind,
            "config": self.stage.model_dump(mode="json"),
            "inputs": dict(self.inputs),
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def load(cls, values: Mapping[str, Any]) -> "Node":
        """The node that `dump` wrote.

        Raises:
            ValueError: the code here gives it another fingerprint than the code that dumped it.
        """
        stage = STAGES[values["kind"]].model_validate(values["config"])
        if (here := fingerprint(stage, values["inputs"])) != values["fingerprint"]:
            raise ValueError(
                f"{values['field']} has the fingerprint {values['fingerprint']} on the driver and {here} here: "
                "the two run different code"
            )
        return cls(field=values["field"], stage=stage, inputs=values["inputs"], fingerprint=here)


def check_files(nodes: Iterable[Node], weights: Path | None) -> None:
    """Read every weight file that a stage starts from, before hours are spent on other stages.

    Raises:
        ValueError: the folder `weights` lacks one, or one is damaged; the message names the stage.
    """
    for node in nodes:
        if is_file(init := getattr(node.stage, "init", "")):
            try:
                read_weights(locate(init, weights))
            except ValueError as error:
                raise ValueError(f"{node.field}.init: {error}") from None


def plan(pipeline: Pipeline, *, targets: Sequence[str] = TARGETS) -> dict[str, Node]:
    """The artifacts that `targets` need, by field, upstream first.

    Raises:
        ValueError: a target is no field of the pipeline.
    """
    nodes: dict[str, Node] = {}

    def visit(field: str) -> str:
        if field not in nodes:
            stage = pipeline.stage(field)
            inputs = {need: visit(need) for need in stage.needs()}
            nodes[field] = Node(
                field=field, stage=stage, inputs=inputs, fingerprint=fingerprint(stage, inputs)
            )
        return nodes[field].fingerprint

    for target in targets:
        if target not in Pipeline.model_fields:
            raise ValueError(
                f"no stage {target!r} in the pipeline; its stages are {', '.join(Pipeline.model_fields)}"
            )
        visit(target)
    return nodes


def override(pipeline: Pipeline, overrides: Mapping[str, Any]) -> Pipeline:
    """`pipeline` with other knobs: dotted keys such as `cgnet.lr`, where `*` stands for any text
    (`*.seed`).

    Later keys win over earlier ones. A change of `data.kind` starts from that data's defaults.

    Raises:
        ValueError: a key matches no knob, or a value is not allowed; the message names the key.
    """
    values: dict[str, dict[str, Any]] = pipeline.model_dump()
    origin: dict[str, str] = {}
    if overrides.get("data.kind", pipeline.data.kind) != pipeline.data.kind:
        values["data"] = _defaults_of_data(overrides["data.kind"])
    knobs = [f"{field}.{knob}" for field, stage in values.items() for knob in stage]
    for pattern, value in overrides.items():
        matches = [knob for knob in knobs if fnmatchcase(knob, pattern)]
        if not matches:
            raise ValueError(f"override {pattern!r} matches no knob; {_nearest(pattern, knobs)}")
        for match in matches:
            field, knob = match.split(".")
            values[field][knob] = value
            origin[match] = pattern
    try:
        return Pipeline.model_validate(values)
    except ValidationError as error:
        raise ValueError("; ".join(_explain(error, origin))) from None


def profile(name: str) -> dict[str, Any]:
    """Overrides of the profile `name`, a YAML file in `occse/profiles`; its key `profile` names the
    one it starts from.

    Raises:
        ValueError: there is no such profile.
    """
    folder = files("occse") / "profiles"
    known = sorted(
        entry.name.removesuffix(".yaml")
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    )
    if name not in known:
        raise ValueError(f"no profile {name!r}; the profiles are {', '.join(known)}")
    overrides: dict[str, Any] = yaml.safe_load((folder / f"{name}.yaml").read_text())
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
    return (
        f"the nearest are {', '.join(near)}"
        if near
        else f"the stages are {', '.join(Pipeline.model_fields)}"
    )


def _explain(error: ValidationError, origin: Mapping[str, str]) -> Iterator[str]:
    for item in error.errors():
        where = [str(part) for part in item["loc"] if part not in DATA]
        knob = ".".join(where[:2])
        key = origin.get(knob, knob)
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] != "value_error":  # a rule over several knobs names them itself
            message += f", got {item['input']!r}"
        yield f"{key}: {message}" + (f" (for {knob})" if key != knob else "") if key else message
