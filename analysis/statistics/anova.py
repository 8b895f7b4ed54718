"""Analysis of variance of a table of scores by categorical factors: type II sums of squares,
marginal means.

Designs of sweeps are seldom balanced and sometimes have factors that cannot be told apart. So each
model is fitted by least squares on indicator columns (statsmodels' OLS with a pseudo-inverse), and
degrees of freedom are differences of ranks: a term that the others explain has none, and gets no
p-value."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.regression.linear_model import OLS, RegressionResults
from statsmodels.tools.sm_exceptions import SingularMatrixWarning

from analysis.read.counts import Floats
from analysis.statistics.bootstrap import LEVEL

Term = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class AnovaRow:
    """A term of the table: one factor, or the interaction of two.

    Attributes:
        freedom, error_freedom: degrees of freedom of the term and of the error; 0 where the data do
        not tell. f, p: the F ratio and its p-value; None without degrees of freedom. eta: partial
        eta squared, the term's share of its own and the error's sum of squares.
    """

    term: Term
    freedom: int
    error_freedom: int
    f: float | None
    p: float | None
    eta: float


@dataclass(frozen=True, kw_only=True)
class Margin:
    """Mean of a factor's level with 95 % interval, all combinations of the other factors weighing
    the same.
    """

    factor: str
    level: str
    mean: float
    low: float | None
    high: float | None


def type_two(
    frame: pd.DataFrame, score: str, terms: Sequence[Term], *, block: str | None = None
) -> list[AnovaRow]:
    """Every term against the models without it, and without those that contain it.

    Args:
        frame: a row per observation; factors are text.
        score: the column that is explained.
        terms: factors and interactions.
        block: a factor that is in every model and not tested.
    """
    always: list[Term] = [(block,)] if block else []
    whole = _fit(frame, score, [*always, *terms])
    error, noise = int(whole.df_resid), float(whole.ssr)
    rows = []
    for term in terms:
        beside = [*always, *(other for other in terms if not set(term) <= set(other))]
        without, with_it = _fit(frame, score, beside), _fit(frame, score, [*beside, term])
        squares, freedom = (
            max(0.0, float(without.ssr - with_it.ssr)),
            int(without.df_resid - with_it.df_resid),
        )
        tested = freedom > 0 and error > 0 and noise > 0
        f = squares / freedom / (noise / error) if tested else None
        rows.append(
            AnovaRow(
                term=term,
                freedom=freedom,
                error_freedom=error,
                f=f,
                p=float(stats.f.sf(f, freedom, error)) if f is not None else None,
                eta=squares / (squares + noise) if squares + noise else 0.0,
            )
        )
    return rows


def error_freedom(frame: pd.DataFrame, terms: Sequence[Term], *, block: str | None = None) -> int:
    """The degrees of freedom that a model leaves for the error."""
    always: list[Term] = [(block,)] if block else []
    return len(frame) - int(
        np.linalg.matrix_rank(_design(frame, [*always, *terms], _levels(frame, terms, block)))
    )


def separable(frame: pd.DataFrame, factors: Sequence[str]) -> bool:
    """Whether the data can tell the effects of all factors apart."""
    wanted = 1 + sum(frame[name].nunique() - 1 for name in factors)
    return len(frame) - error_freedom(frame, [(name,) for name in factors]) == wanted


def margins(frame: pd.DataFrame, score: str, terms: Sequence[Term], factor: str) -> list[Margin]:
    """The marginal means of `factor` under a model of `terms`; without intervals where no error is
    left.
    """
    levels, fit = _levels(frame, terms, None), _fit(frame, score, terms)
    others = [name for name in levels if name != factor]
    found = []
    for level in levels[factor]:
        grid = pd.DataFrame(
            list(product([level], *(levels[name] for name in others))), columns=[factor, *others]
        )
        weights = _design(grid, terms, levels).mean(axis=0)
        mean = float(weights @ fit.params)
        error = float(np.sqrt(weights @ fit.cov_params() @ weights)) if fit.df_resid else None
        reach = None if error is None else float(stats.t.ppf((1 + LEVEL) / 2, fit.df_resid)) * error
        low, high = (None, None) if reach is None else (mean - reach, mean + reach)
        found.append(Margin(factor=factor, level=level, mean=mean, low=low, high=high))
    return found


def crossed(frame: pd.DataFrame, factors: Sequence[str]) -> bool:
    """Whether every combination of the factors' levels was observed."""
    return len(frame[list(factors)].drop_duplicates()) == int(
        np.prod([frame[name].nunique() for name in factors])
    )


def _fit(frame: pd.DataFrame, score: str, terms: Sequence[Term]) -> RegressionResults:
    with warnings.catch_warnings():
        # the columns are redundant on purpose
        warnings.simplefilter("ignore", SingularMatrixWarning)
        return OLS(
            frame[score].to_numpy(float), _design(frame, terms, _levels(frame, terms, None))
        ).fit()


def _levels(frame: pd.DataFrame, terms: Sequence[Term], block: str | None) -> dict[str, list[str]]:
    names = dict.fromkeys([name for term in terms for name in term] + ([block] if block else []))
    return {name: sorted(frame[name].unique()) for name in names}


def _design(
    frame: pd.DataFrame, terms: Sequence[Term], levels: Mapping[str, Sequence[str]]
) -> Floats:
    """A constant, and an indicator column for every combination of levels of every term."""
    columns = [np.ones(len(frame))]
    for term in terms:
        for combination in product(*(levels[name] for name in term)):
            hits = [
                (frame[name] == level).to_numpy()
                for name, level in zip(term, combination, strict=True)
            ]
            columns.append(np.logical_and.reduce(hits).astype(float))
    return np.stack(columns, axis=1)
