"""Importance of knobs by functional analysis of variance (fANOVA), computed by Optuna from any
finished sweep.
"""

from collections.abc import Mapping, Sequence

import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import create_trial

from analysis.read.knobs import PARAM, ordered

# Of the random forest, so that the same trials give the same shares.
SEED = 0
# With more values a numeric knob was searched, and its range is continuous.
FEW = 10


def importances(rows: pd.DataFrame, metric: str, knobs: Sequence[str]) -> dict[str, float]:
    """Share of the variance of `metric` that each of `knobs` explains by itself, over the values
    that were tried.

    A grid's knobs are categories that weigh the same; one with more than ten numbers is a range. A
    random forest (its seed is 0) stands for the score between the trials, so shares of few trials
    are rough.

    Args:
        rows: trials of `load` that all have the knobs and the metric.
        metric: what is explained.
        knobs: at least two that vary.
    """
    distributions = {knob: _distribution(rows[PARAM + knob]) for knob in knobs}
    # Optuna announces each new study on stderr, and nobody asked for a study here. Its level is
    # global, so the user's own is put back.
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize")
    finally:
        optuna.logging.set_verbosity(verbosity)
    for _, row in rows.iterrows():
        params = {knob: _value(row[PARAM + knob], distributions[knob]) for knob in knobs}
        study.add_trial(
            create_trial(params=params, distributions=distributions, value=float(row[metric]))
        )
    found: Mapping[str, float] = get_param_importances(
        study, evaluator=FanovaImportanceEvaluator(seed=SEED)
    )
    return {knob: float(found[knob]) for knob in knobs}


def _distribution(values: "pd.Series[str]") -> BaseDistribution:
    levels = ordered(values)
    # A forest splits a range between any two values; of categories it knows no order, so a searched
    # knob as categories would have a level for nearly every trial.
    if len(levels) > FEW and all(_number(level) is not None for level in levels):
        return FloatDistribution(float(levels[0]), float(levels[-1]))
    return CategoricalDistribution(levels)


def _value(text: str, distribution: BaseDistribution) -> float | str:
    return float(text) if isinstance(distribution, FloatDistribution) else text


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
