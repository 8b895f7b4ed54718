"""Names for people of what the trials of sweeps have: knobs, values, metrics, variants.

A sweep keeps the labels of its file as `labels.json` on its own run; `load` keeps that text with
every trial (column `labels`), and a file of the user's (`--labels`) comes before it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pandas as pd

from analysis.read.artifact_ids import Run
from analysis.read.json_text import parse_json
from analysis.read.pipeline import BEFORE, Pipeline, pipeline_of
from analysis.read.yaml_file import YamlFile
from occse.naming.defaults import VALUES
from occse.naming.labels import NO_VALUE, Labels, unknown_keys, value_text
from occse.naming.markup import Name, checked, join, quoted
from occse.naming.variants import Part, split_variants, variant_names

COLUMN = "labels"
PARAM = "param."
#: Choices that an error names.
SHOWN = 8
#: Values of a knob that an error names: most knobs have fewer.
MOST_VALUES = 20


@dataclass(frozen=True, kw_only=True)
class Naming:
    """Names for people of all that the answers about a sweep are about.

    Attributes:
        labels: names of knobs, values, stages and metrics.
        variants: short names of the variants, by variant.
        knobs: all knobs of the trials, with their stages.
    """

    labels: Labels
    variants: Mapping[str, Name] = field(default_factory=dict)
    knobs: Sequence[str] = ()

    def variant(self, variant: str) -> Name:
        """Return the name of a variant; the variant itself where it is none of the sweep."""
        return self.variants.get(variant) or Name(quoted(variant))

    def part(self, knob: str, value: object) -> Name:
        """Return the name of a value of a knob, whose stage may be missing, as in `CSE` or `λ=10`.

        A list is one of several values.
        """
        values = value if isinstance(value, list | tuple) else [value]
        full = self._full(knob)
        return join(" or ", [self.labels.part(full, each, short=knob) for each in values])

    def knob(self, knob: str) -> Name:
        """Return the name of a knob, whose stage may be missing."""
        return self.labels.knob(self._full(knob), short=knob)

    def _full(self, knob: str) -> str:
        fitting = [name for name in self.knobs if name == knob or name.endswith(f".{knob}")]
        return fitting[0] if len(fitting) == 1 else knob


def naming_of(trials: pd.DataFrame) -> Naming:
    """Return the names for people of `trials` (from `load`)."""
    return Naming(labels=labels_of(trials), variants=names_of(trials), knobs=knobs_of(trials))


def knobs_of(trials: pd.DataFrame) -> list[str]:
    """Return all knobs that any of the trials has, with their stages."""
    return [str(name).removeprefix(PARAM) for name in trials if str(name).startswith(PARAM)]


def labels_of(trials: pd.DataFrame) -> Labels:
    """Return the labels of `trials` (from `load`); of several sweeps the first that has a key wins.

    Raises:
        ValueError: a text in the column `labels` or `pipeline` is not one that this version reads.
    """
    texts = trials[COLUMN].dropna().unique() if COLUMN in trials else ()
    own: dict[str, str] = {}
    for text in texts:
        own = {**read_labels(text), **own}
    pipeline = pipeline_of(trials)
    # old runs do not tell how their stages are called
    stages = {stage.field: stage.display_name for stage in pipeline.stages if stage.display_name}
    return Labels(own=own, stages=stages)


def names_of(trials: pd.DataFrame, *, labels: Labels | None = None) -> dict[str, Name]:
    """Return short names of the variants of `trials`, by variant."""
    runs = trials.to_dict("records")
    return short_names(runs, labels_of(trials) if labels is None else labels)


def variant_called(name: str, trials: pd.DataFrame) -> str:
    """Return the variant of a name: its own, or the short one of tables and figures.

    Raises:
        ValueError: no variant of `trials` is called so.
    """
    by_name = {str(short): variant for variant, short in names_of(trials).items()}
    # A variant's own name counts before the short name of another.
    by_name |= {variant: variant for variant in list(by_name.values())}
    if name not in by_name:
        raise ValueError(f"no variant {name!r}; there are: {shown_variants(trials)}")
    return by_name[name]


def shown_variants(trials: pd.DataFrame) -> str:
    """Return the names of all variants of `trials` as tables show them, for an error."""
    return "; ".join(names_of(trials).values())


def short_names(runs: Sequence[Run], labels: Labels) -> dict[str, Name]:
    """Return short names of the variants of `runs`, by variant; see `occse.naming.variants`."""
    variants = dict.fromkeys(str(run["variant"]) for run in runs)
    return variant_names(variants, labels, knobs=knobs_of_parts(runs))


def knobs_of_parts(runs: Sequence[Run]) -> dict[Part, str]:
    """Return the knob, with its stage, that each part of the variants' names is about.

    A name has a knob without its stage where that is clear to the sweep's file. Of several knobs of
    that name the one is meant that has the values of the names.
    """
    firsts: dict[str, Run] = {}
    for run in runs:
        firsts.setdefault(str(run["variant"]), run)
    parts = split_variants(firsts)
    columns = [name for name in (runs[0] if runs else ()) if str(name).startswith(PARAM)]
    by_head: dict[str, list[Part]] = {}
    for part in parts.owners:
        by_head.setdefault(part[0], []).append(part)
    found: dict[Part, str] = {}
    for head, of_head in by_head.items():
        fitting = [name for name in columns if name == PARAM + head or name.endswith(f".{head}")]
        if len(fitting) > 1:
            owners = {part: [firsts[variant] for variant in parts.owners[part]] for part in of_head}
            fitting = [name for name in fitting if _has_values(name, owners)] or fitting
        if head and fitting:
            found |= dict.fromkeys(of_head, fitting[0].removeprefix(PARAM))
    return found


def _has_values(column: str, owners: Mapping[Part, Iterable[Run]]) -> bool:
    """Tell whether the runs that own a part have its value in `column`."""
    for (_, value), runs in owners.items():
        text = value_text(value)
        if any(value_text(run[column]) != text for run in runs):
            return False
    return True


# The same text stands with every trial.
@cache
def read_labels(text: str) -> Mapping[str, str]:
    """Return the labels in the text of a `labels.json`; none of an empty text.

    Raises:
        ValueError: it is no such text.
    """
    if not text:
        return {}
    try:
        return _checked(parse_json(text)["labels"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"labels.json of a sweep cannot be read: {error}") from None


def with_label_file(trials: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return `trials` with the labels of a YAML file before those of their sweeps.

    Raises:
        ValueError: there is no such file, it is none of labels, or a key is about nothing that
            the trials have.
    """
    try:
        file = YamlFile(path, kind="labels")
    except ValueError as error:
        raise ValueError(f"--labels {error}") from None
    content = file.values
    above: tuple[str, ...] = ()
    # the file may be a sweep's, or a table's, which have labels among other keys
    if isinstance(content, dict) and isinstance(content.get("labels"), dict):
        content = content["labels"]
        above = ("labels",)
    if not isinstance(content, dict):
        raise ValueError(  # noqa: TRY004 - bad input ends with a message
            f"--labels {path}: expected names by key, such as `cgnet.erasing=cse: CSE`, got "
            f"{type(content).__name__}"
        )
    for key, text in content.items():
        try:
            _checked({key: text})
            check_keys([key], trials)
        except (TypeError, ValueError) as error:
            raise ValueError(f"--labels {file.where((*above, key))}: {error}") from None
    own = _checked(content)
    merged = {**labels_of(trials).own, **Labels(own).own}
    return trials.assign(**{COLUMN: json.dumps({"labels": merged})})


def check_keys(own: Iterable[str], trials: pd.DataFrame) -> None:
    """Check that every key of a label map is about something that the trials have.

    Raises:
        ValueError: one is not, or the value of a knob is none that they have; the message has the
            choices.
    """
    knobs = knobs_of(trials)
    stages = _fields(pipeline_of(trials), trials)
    found = unknown_keys(own, knobs=knobs, stages=stages)
    if found:
        import difflib

        metrics = sorted(str(name) for name in trials if str(name).endswith("/miou"))
        key = found[0]
        head = key.partition("=")[0]
        near = difflib.get_close_matches(head, [*knobs, *metrics, *stages], n=SHOWN)
        choices = near or [*knobs[:SHOWN], *metrics]
        raise ValueError(
            f"{key!r}: expected a knob, knob=value, a metric or a stage of these trials, such as "
            f"{', '.join(choices)}"
        )
    for key in own:
        _check_value(key, trials)


def _check_value(key: str, trials: pd.DataFrame) -> None:
    """Check that the value of a key `knob=value` is one of the trials, or one with a usual name."""
    knob, equals, value = key.partition("=")
    column = PARAM + knob.strip()
    if not equals or column not in trials:
        return
    text = value_text(value.strip())
    there = {value_text(each) for each in trials[column].dropna().unique()}
    known = {*there, NO_VALUE}
    if text not in known and f"{knob.strip()}={text}" not in VALUES:
        choices = ", ".join(sorted(there)[:MOST_VALUES])
        raise ValueError(
            f"{key!r}: expected a value of {knob.strip()} that these trials have ({choices}), got "
            f"{text!r}"
        )


def _fields(pipeline: Pipeline, trials: pd.DataFrame) -> list[str]:
    planned = set[str]().union(*trials["planned"]) if len(trials) else set[str]()
    return list(dict.fromkeys([*pipeline.fields, *BEFORE.fields, *sorted(planned)]))


def _checked(values: object) -> dict[str, str]:
    if not isinstance(values, Mapping):
        raise TypeError(f"got {type(values).__name__}")
    for key, text in values.items():
        if not isinstance(key, str) or not isinstance(text, str) or not text.strip():
            raise TypeError(f"{key}: expected a text, got {text!r}")
        checked(text)
    return dict(values)
