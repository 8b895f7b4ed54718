"""The expectations of a sweep, held against its results: held, not shown, or contradicted.

A sweep's file states them under `expect`; the sweep logs those that can be checked as
`expectations.json` on its own run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from analysis.read.json_text import parse_json
from analysis.read.labels import Naming
from analysis.read.mlflow import sweep_text
from analysis.statistics.adjustment import holm
from analysis.statistics.bootstrap import LEVEL, Interval
from analysis.studies.compare import ends, p_text
from analysis.studies.contrasts import Side, contrast, side_name
from analysis.studies.other_thresholds import Elsewhere
from analysis.table.digits import points
from analysis.table.grid import Passage, named, text_grid

FILE = "expectations.json"
# The version of that file that is read here.
VERSION = 1
Outcome = Literal["held", "not shown with this many seeds", "contradicted", "not judged"]
ADJUSTED = (
    "p is adjusted (Holm) for the expectations of this table alone, so the same difference may "
    "have another p among the comparisons of all variants; intervals are not adjusted."
)


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """A claim about two sides.

    Attributes:
        compare, against: the sides; None for the baseline.
        metric: the mIoU of a scored stage.
        sign: `+` where `compare` shall be better, `-` where worse.
        text: the claim in words; empty for none.
    """

    compare: Side
    against: Side | None
    metric: str
    sign: Literal["+", "-"]
    text: str = ""

    def claim(self, naming: Naming) -> str:
        """Return the claim in words."""
        better = "better" if self.sign == "+" else "worse"
        sides = [side_name(side, naming) for side in (self.compare, self.against)]
        return self.text or f" {better} than ".join(sides)


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """An expectation with its outcome.

    Attributes:
        expectation: the claim.
        difference: as measured; None where it could not be.
        p_holm: adjusted over all expectations of the sweep.
        why_not: why it could not be judged; empty where it was.
        elsewhere: the difference at other alphas or thresholds; None where none are recorded.
    """

    expectation: Expectation
    difference: Interval | None
    p_holm: float | None
    why_not: str = ""
    elsewhere: Elsewhere | None = None

    @property
    def outcome(self) -> Outcome:
        """The outcome at the level, after Holm's adjustment."""
        if self.difference is None or self.p_holm is None:
            return "not judged"
        if self.p_holm >= 1 - LEVEL:
            return "not shown with this many seeds"
        wanted = self.expectation.sign == "+"
        return "held" if (self.difference.value > 0) == wanted else "contradicted"

    @property
    def remark(self) -> str:
        """The outcome, and how far it holds at other alphas or thresholds."""
        if self.elsewhere is None or self.outcome not in ("held", "contradicted"):
            return self.outcome
        return f"{self.outcome}; {self.elsewhere.text}"


def expectations(experiment: str, *, tracking: str | None = None) -> list[Expectation]:
    """Return the checkable expectations that a sweep logged; none for sweeps without.

    Raises:
        ValueError: the sweep's `expectations.json` cannot be read.
    """
    text = sweep_text(experiment, FILE, tracking=tracking)
    if not text:
        return []
    try:
        content = parse_json(text)
        if content["version"] != VERSION:
            raise ValueError(f"expected version {VERSION}, it has {content['version']}")
        return [_expectation(claim) for claim in content["claims"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{FILE} of {experiment} cannot be read: {error!r}") from None


def judge(
    trials: pd.DataFrame, claims: Sequence[Expectation], *, tracking: str | None = None
) -> list[Judgement]:
    """Judge the expectations of a sweep by its trials (from `load`)."""
    found: list[Interval | None] = []
    elsewhere: list[Elsewhere | None] = []
    reasons: list[str] = []
    for claim in claims:
        field = claim.metric.partition("/")[0]
        try:
            result = contrast(trials, field, claim.compare, claim.against, tracking=tracking)
        except ValueError as error:
            # A gate may have stopped one side, or it has not run yet: the other claims are judged
            # all the same.
            found.append(None)
            elsewhere.append(None)
            reasons.append(str(error))
        else:
            found.append(result.difference)
            elsewhere.append(result.elsewhere)
            reasons.append("")
    # Only what was judged is adjusted for: a claim without data is no test.
    adjusted = iter(holm([each.p or 0.0 for each in found if each is not None]))
    return [
        Judgement(
            expectation=claim,
            difference=difference,
            p_holm=None if difference is None else next(adjusted),
            why_not=reason,
            elsewhere=others,
        )
        for claim, difference, reason, others in zip(claims, found, reasons, elsewhere, strict=True)
    ]


def expectations_passage(judgements: Sequence[Judgement], naming: Naming) -> Passage:
    """Return each expectation with its outcome and its numbers."""
    heads = ["expectation", "metric", "outcome", "difference", "95 % interval", "p (Holm)"]
    grid = text_grid(
        "expectations",
        "Expectations, and what came of them; differences in points",
        heads,
        [_cells(judgement, naming) for judgement in judgements],
    )
    notes = [
        f"{judgement.expectation.claim(naming)}: not judged, since {judgement.why_not}."
        for judgement in judgements
        if judgement.why_not
    ]
    if any(judgement.p_holm is not None for judgement in judgements):
        notes.append(ADJUSTED)
    return Passage(grids=[grid], notes=notes)


def _cells(judgement: Judgement, naming: Naming) -> list[object]:
    claim = judgement.expectation
    difference = judgement.difference
    metric = named(naming.labels.metric(claim.metric), claim.metric)
    start = [claim.claim(naming), metric, judgement.remark]
    if difference is None or judgement.p_holm is None:
        return [*start, "", "", ""]
    return [
        *start,
        points(difference.value),
        ends(difference),
        p_text(judgement.p_holm),
    ]


def _expectation(claim: dict[str, object]) -> Expectation:
    sign = claim["sign"]
    if sign not in ("+", "-"):
        raise ValueError(f"sign is {sign!r}; expected '+' or '-'")
    against = claim.get("against")
    return Expectation(
        compare=_as_side(claim["compare"]),
        against=None if against is None else _as_side(against),
        metric=str(claim["metric"]),
        sign="+" if sign == "+" else "-",
        text=str(claim.get("text") or ""),
    )


def _as_side(value: object) -> Side:
    if isinstance(value, str | dict) and value:
        return value
    raise ValueError(f"expected knobs or the name of a variant, not {value!r}")
