"""The specification of a table, from a small YAML file or the command line.

    title: Does the best lambda depend on alpha?
    rows: [cgnet.erasing, cgnet.lambda_start]  # knobs; without rows every variant has one
    columns: [crf_low.alpha]                   # knobs; without columns each metric has one
    metrics: [seg/miou]                        # cam/miou@0.3, cam/miou@held-out-50: other rules
    where: {cam.source: cgnet, cgnet.erasing: [cse, class_agnostic]}
    delta: previous                            # or baseline: the difference behind each mean
    baseline: {cam.source: oc}                 # instead of the sweep's own
    best: {of: [crf_low.alpha, crf_high.alpha], by: crf/miou}
    paper: true                                # the paper's numbers beside ours
    labels: {cgnet.erasing=cse: CSE, seg/miou: mIoU}  # names for people, before those of the sweep

`analysis.read.thresholds` tells what stands behind an @. A ladder has `steps: [{name: + erasing,
where: {cam.source: cgnet}}, ...]` instead of rows. The stage before a knob's name may be left out
where no other stage has the knob; `variant`, `experiment` and `seed` stand for themselves.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from analysis.read.yaml_file import Location, Where, YamlFile
from occse.naming.markup import checked

# As in the file of a sweep, see `occse.naming.labels`.
Label = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(checked)]
Metric = Annotated[str, Field(pattern=r"^\w+/\S")]


class LadderStep(BaseModel):
    """A row of a ladder: the trials that `where` means."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"\S")
    where: Where


class Best(BaseModel):
    """Of the values of the knobs `of` the one with the highest mean of the metric `by` is shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    of: tuple[str, ...] = Field(min_length=1)
    by: Metric


class TableSpec(BaseModel):
    """Rows, columns and what stands in the cells; by default a row per variant and a column per
    scored stage.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = ""
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    metrics: tuple[Metric, ...] = ()
    where: Where = {}
    steps: tuple[LadderStep, ...] = ()
    delta: Literal["previous", "baseline"] | None = None
    baseline: Where | None = None
    best: Best | None = None
    paper: bool = False
    labels: dict[str, Label] = {}

    @model_validator(mode="after")
    def _one_kind_of_rows(self) -> "TableSpec":
        if self.rows and self.steps:
            raise ValueError("give `rows` or `steps`: a ladder's rows are its steps")
        if twice := sorted(set(self.rows) & set(self.columns)):
            raise ValueError(
                f"{twice[0]} is in `rows` and in `columns`; expected it in one of them"
            )
        return self


def read_table_spec(document: YamlFile) -> TableSpec:
    """Return the table that a file describes.

    Raises:
        ValueError: one line for each fault: `FILE:LINE: key: what is wrong; what is allowed`.
    """
    if not isinstance(document.values, Mapping):
        allowed = ", ".join(TableSpec.model_fields)
        message = f"{document.path}:1: expected keys and values; allowed are {allowed}"
        raise ValueError(message)  # noqa: TRY004
    try:
        return TableSpec.model_validate(document.values)
    except ValidationError as error:
        lines = [
            _line(document, fault["loc"], fault["type"], fault["msg"]) for fault in error.errors()
        ]
        raise ValueError("\n".join(dict.fromkeys(lines))) from None


def _line(document: YamlFile, location: Location, kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        model = _model_at(location)
        message = f"unknown key; allowed are {', '.join(model.model_fields)}"
    key = ".".join(map(str, location))
    # pydantic puts these words before the text of a validator of ours.
    message = message.removeprefix("Value error, ")
    return ": ".join(filter(None, (document.where(location), key, message)))


def _model_at(location: Location) -> type[BaseModel]:
    """Return the model whose keys are allowed at a location."""
    # Only a step of the ladder and `best` have keys of their own; those of `where` are free.
    if len(location) < 2:
        return TableSpec
    return LadderStep if location[0] == "steps" else Best
