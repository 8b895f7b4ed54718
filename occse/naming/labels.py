"""The label map: from the names in files and records to names for people.

Keys are of four kinds: a knob (`cgnet.lambda_start`), a value of a knob (`cgnet.erasing=cse`), a
metric (`pseudo/miou`), and a stage (`pseudo`). A user's label comes before the default.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from occse.naming.defaults import KNOBS, MEASURES, METRICS, NARROW_METRICS, VALUES
from occse.naming.markup import Name, join, quoted

# What a variant without any knob of its own is called by the platform.
NO_VALUE = "–"
# Of a number with a fraction: more than a person writes, and without the round-off of 0.1 + 0.2.
DIGITS = 12
WORD = re.compile(r"[a-zA-Z]\w*")
# The second part of the name of the mIoU on the images with several classes.
SEVERAL_CLASSES = "miou_multi"
# Words that say nothing without the knob's name.
BARE = frozenset({"true", "false", "null", "none"})


@dataclass(frozen=True)
class Labels:
    """Names for people.

    Attributes:
        own: the user's labels by key.
        stages: display names of the stages by field.
    """

    own: Mapping[str, str] = field(default_factory=dict)
    stages: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # `cgnet.lambda_start=10` and `=10.0` are one key
        normal = {_normal_key(key): text for key, text in self.own.items()}
        object.__setattr__(self, "own", normal)

    def over(self, own: Mapping[str, str]) -> "Labels":
        """Return labels in which those of `own` come first."""
        return Labels(own={**self.own, **Labels(own).own}, stages=self.stages)

    def knob(self, knob: str, *, short: str = "") -> Name:
        """Return the name of a knob.

        Args:
            knob: with its stage.
            short: how it is called where it has no label; by default `knob`.
        """
        found = self.own.get(knob) or KNOBS.get(knob)
        return Name(found) if found else Name(quoted(short or knob))

    def value(self, knob: str, value: object) -> Name:
        """Return the name of a value of a knob; the value as text where it has none."""
        text = value_text(value)
        return self._named_value(knob, text) or Name(quoted(text))

    def value_names(self, knob: str, values: Iterable[object]) -> dict[str, Name]:
        """Return the names of values of a knob by their text, no two of them alike.

        Values that share a label are told apart by themselves, in brackets behind it.
        """
        names = {text: self.value(knob, text) for text in map(value_text, values)}
        counts = Counter(names.values())
        return {
            text: name if counts[name] == 1 else join(" ", (name, f"({text})"))
            for text, name in names.items()
        }

    def part(self, knob: str, value: object, *, short: str = "") -> Name:
        """Return what a variant's name says of a knob: `CSE`, `hard`, or `λ=10`.

        A word speaks for itself, unless it needs its knob, such as `true`; a number does not.
        """
        text = value_text(value)
        named = self._named_value(knob, text)
        if named:
            return named
        if WORD.fullmatch(text) and text.lower() not in BARE and knob not in self.own:
            return Name(quoted(text))
        return join("=", (self.knob(knob, short=short), text))

    def stage(self, name: str) -> Name:
        """Return the name of a stage."""
        return Name(self.own.get(name) or quoted(self.stages.get(name, name)))

    def metric(self, metric: str) -> Name:
        """Return the name of a metric, with its rule where it has one (`cam/miou@0.3`)."""
        if metric in self.own:
            return Name(self.own[metric])
        base, at, rule = metric.partition("@")
        if at:
            return join(" ", (self.metric(base), f"@ {rule}"))
        stage, slash, rest = metric.partition("/")
        if rest == SEVERAL_CLASSES:
            return join(" ", (self.score(stage), "(several classes)"))
        if stage not in self.own and metric in METRICS:
            return Name(METRICS[metric])
        usual = METRICS.get(f"{stage}/miou", "")
        if slash and usual and stage not in self.own:
            # as its score is called: "Pseudo-label IoU" beside "Pseudo-label mIoU"
            start = Name(usual.removesuffix(MEASURES["miou"]).rstrip())
        elif slash and stage in self.own.keys() | self.stages.keys():
            start = _capital(self.stage(stage))
        else:
            return Name(quoted(metric))
        measure, _, of_class = rest.partition("/")
        words = [start, MEASURES.get(measure, measure.replace("_", " "))]
        return join(" ", [*words, of_class] if of_class else words)

    def narrow_metric(self, metric: str) -> Name:
        """Return the name of a metric where room is short; a user's own label is not shortened."""
        own = {metric, metric.partition("/")[0]} & self.own.keys()
        if own or metric not in NARROW_METRICS:
            return self.metric(metric)
        return Name(NARROW_METRICS[metric])

    def score(self, stage: str) -> Name:
        """Return the name of the mIoU of a stage."""
        return self.metric(f"{stage}/miou")

    def _named_value(self, knob: str, text: str) -> Name | None:
        key = f"{knob}={text}"
        found = self.own.get(key) or VALUES.get(key)
        return Name(found) if found else None


def value_text(value: object) -> str:
    """Return a value as people read it, whether it comes as itself, as JSON or as shown text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            # as Python shows them
            return value.lower() if value in ("True", "False") else str(value)
    # pandas has NaN where a trial has no such knob
    if value is None or value != value:
        return NO_VALUE
    if isinstance(value, list | tuple):
        return f"({' '.join(map(value_text, value))})"
    if isinstance(value, bool):
        return json.dumps(value)
    return number_text(value) if isinstance(value, int | float) else str(value)


def number_text(value: float) -> str:
    """Return a number as short as it can be told from others: 10 for 10.0, 1e-05, 1234567."""
    return str(value) if isinstance(value, int) else f"{value:.{DIGITS}g}"


def unknown_keys(keys: Iterable[str], *, knobs: Iterable[str], stages: Iterable[str]) -> list[str]:
    """Return those of `keys` that are about no known knob and no known stage."""
    known_knobs = set(knobs)
    known_stages = set(stages)
    found = []
    for key in keys:
        knob, equals, _ = key.partition("=")
        stage, slash, metric = key.partition("/")
        if slash and metric and not equals:
            is_known = stage in known_stages
        elif "." in knob:
            is_known = knob.strip() in known_knobs
        else:
            is_known = key in known_stages
        if not is_known:
            found.append(key)
    return found


def _normal_key(key: str) -> str:
    knob, equals, value = key.partition("=")
    return f"{knob.strip()}={value_text(value.strip())}" if equals else key.strip()


def _capital(name: Name) -> Name:
    """Return a name with a capital letter in front; a letter of maths stays as it is."""
    start = name.markup[:1]
    return Name(start.upper() + name.markup[1:])
