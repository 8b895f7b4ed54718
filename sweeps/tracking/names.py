"""Short names of trials in MLflow, whose pages cut what is longer than some twenty letters."""

from collections.abc import Iterable

from occse.naming.labels import Labels
from occse.naming.markup import join
from occse.naming.variants import Part, split_variants, variant_names
from occse.pipeline import pipeline_facts
from sweeps.spec.axes import knobs_of
from sweeps.spec.knobs import matching
from sweeps.spec.model import Spec
from sweeps.spec.trials import Trial


class TrialNames:
    """Names of the trials of a sweep: what tells its variants apart, and the seed.

    `CSE λ=10 · s0` in place of `source=cgnet, erasing=cse, lambda_start=10 · seed 0`.
    """

    def __init__(self, spec: Spec, trials: Iterable[Trial]) -> None:
        stages = pipeline_facts(spec.base_pipeline())["stages"]
        display_names = {stage["field"]: stage["display_name"] for stage in stages}
        self._labels = Labels(own=spec.labels, stages=display_names)
        self._heads = _knobs_by_head(spec)
        variants = dict.fromkeys(trial.variant for trial in trials)
        # The variants of a search are not known yet, so nothing is known to be shared by all.
        known = [] if spec.search else list(variants)
        self._names = variant_names(known, self._labels, knobs=self._knobs(known), separator=" ")

    def of(self, trial: Trial) -> str:
        """Return the name of a trial."""
        return f"{self.label(trial)} · s{trial.seed}"

    def label(self, trial: Trial) -> str:
        """Return the name of a trial's variant."""
        variant = trial.variant
        if variant in self._names:
            return self._names[variant]
        knobs = self._knobs([variant])
        parts = [
            self._labels.part(knobs.get(part, part[0]), part[1], short=part[0])
            if part[0]
            else part[1]
            for part in split_variants([variant]).own[variant]
        ]
        return join(" ", parts)

    def _knobs(self, variants: Iterable[str]) -> dict[Part, str]:
        parts = split_variants(variants).owners
        return {part: self._heads[part[0]] for part in parts if part[0] in self._heads}


def _knobs_by_head(spec: Spec) -> dict[str, str]:
    """Return the knob that each name in a variant means: a knob, with or without its stage."""
    found: dict[str, str] = {}
    for axis in spec.axes():
        for key in knobs_of(axis):
            # a pattern means several knobs, which have no name together
            if matching(key) == (key,):
                found.setdefault(key.rpartition(".")[2], key)
                found[key] = key
    return found
