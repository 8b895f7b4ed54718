"""Analysis of variance of a table of scores by categorical factors: type II, marginal means.

Designs of sweeps are seldom balanced, and some factors cannot be told apart. So each model is
a projection on the columns of its terms, each factor coded by one column less than it has levels,
and degrees of freedom are differences of ranks. A term that the others explain has none, and gets
no p-value. The block, which is in every model, is projected out first by subtracting its means, so
that many blocks cost no more than few. tests/analysis/statistics/test_anova.py holds the numbers
against statsmodels' `anova_lm(typ=2)` for designs of 8 to 5,000 rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import chain, product

import numpy as np
import pandas as pd
from scipy import linalg, stats

from analysis.read.counts import Floats
from analysis.statistics.bootstrap import LEVEL

Term = tuple[str, ...]
# Columns are scaled to length 1. What is left of a redundant one is round-off, some 1e-15 times the
# square root of the rows; the most collinear column of a real design keeps more than 1e-4.
NOTHING_LEFT = 1e-8


@dataclass(frozen=True, kw_only=True)
class AnovaRow:
    """A term of the table: one factor, or the interaction of two.

    Attributes:
        freedom, error_freedom: degrees of freedom of the term and of the error; 0 where the data do
            not tell.
        f, p: the F ratio and its p-value; None without degrees of freedom.
        eta: partial eta squared, the term's share of its own and the error's sum of squares.
    """

    term: Term
    freedom: int
    error_freedom: int
    f: float | None
    p: float | None
    eta: float


@dataclass(frozen=True, kw_only=True)
class Margin:
    """Mean of a factor's level with its 95 % interval.

    All combinations of the other factors weigh the same. `low` and `high` are None where no degree
    of freedom is left for the error.
    """

    factor: str
    level: str
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A model's residual sum of squares, and the rank of its columns beside block and constant."""

    squares: float
    rank: int


def type_two(
    frame: pd.DataFrame,
    score: str,
    terms: Sequence[Term],
    *,
    block: str | None = None,
    given: Sequence[Term] = (),
) -> list[AnovaRow]:
    """Test every term against the models without it and without those that contain it.

    Args:
        frame: a row per observation; factors are text.
        score: the column that is explained.
        terms: factors and interactions.
        block: a factor that is in every model and not tested.
        given: terms that are in every model and not tested.
    """
    whole = _fit(frame, score, [*given, *terms], block=block)
    # All F ratios share the error of the whole model, as statsmodels' `anova_lm(typ=2)` does: the
    # error of a smaller model would hold the effects that it leaves out. `_blocks` is 1 without a
    # block, the constant's degree of freedom.
    error = len(frame) - _blocks(frame, block) - whole.rank
    rows = []
    for term in terms:
        # Type II: a main effect is tested beside everything but the interactions that contain it,
        # and an interaction beside all main effects.
        beside = [other for other in terms if not set(term) <= set(other)]
        without = _fit(frame, score, [*given, *beside], block=block)
        with_it = _fit(frame, score, [*given, *beside, term], block=block)
        # A term that explains nothing can come out some round-off below 0, and F with it.
        squares = max(0.0, without.squares - with_it.squares)
        freedom = with_it.rank - without.rank
        # A model that fits all scores exactly leaves no error to test against.
        is_tested = freedom > 0 and error > 0 and whole.squares > 0
        f = squares / freedom / (whole.squares / error) if is_tested else None
        rows.append(
            AnovaRow(
                term=term,
                freedom=freedom,
                error_freedom=error,
                f=f,
                p=None if f is None else float(stats.f.sf(f, freedom, error)),
                eta=squares / (squares + whole.squares) if squares + whole.squares else 0.0,
            )
        )
    return rows


def error_freedom(
    frame: pd.DataFrame,
    terms: Sequence[Term],
    *,
    block: str | None = None,
) -> int:
    """Return the degrees of freedom that a model leaves for the error."""
    rank = int(_basis(frame, terms, block=block).shape[1])
    return len(frame) - _blocks(frame, block) - rank


def separable(frame: pd.DataFrame, factors: Sequence[str]) -> bool:
    """Return True if the data can tell the effects of all factors apart."""
    # The rank falls short of the levels where one factor is a function of others, as where two
    # knobs were always changed together.
    wanted = sum(frame[name].nunique() - 1 for name in factors)
    rank = _basis(frame, [(name,) for name in factors], block=None).shape[1]
    return bool(rank == wanted)


def crossed(frame: pd.DataFrame, factors: Sequence[str]) -> bool:
    """Return True if every combination of the factors' levels was observed."""
    observed = len(frame[list(factors)].drop_duplicates())
    return observed == int(np.prod([frame[name].nunique() for name in factors]))


def margins(frame: pd.DataFrame, score: str, terms: Sequence[Term], factor: str) -> list[Margin]:
    """Return the marginal means of `factor` under a model of `terms`.

    Raises:
        ValueError: the data do not tell a mean, since factors cannot be told apart or combinations
            of an interaction are missing.
    """
    levels = _levels(frame, terms)
    columns = np.hstack([np.ones((len(frame), 1)), _columns(frame, terms, levels)])
    values = frame[score].to_numpy(float)
    # Among the many coefficients that fit where factors are confounded, the pseudo-inverse takes
    # the shortest; an estimable mean is the same for all of them.
    inverse, rank = linalg.pinv(columns, rtol=NOTHING_LEFT, return_rank=True)
    residual = values - columns @ (inverse @ values)
    freedom = len(frame) - rank
    others = [name for name in levels if name != factor]
    found = []
    for level in levels[factor]:
        combinations = list(product([level], *(levels[name] for name in others)))
        grid = pd.DataFrame(combinations, columns=[factor, *others])
        # The model's mean over the full grid, whatever was run: a level that was run with good
        # partners only must not look good for that.
        weights = np.append(1.0, _columns(grid, terms, levels).mean(axis=0))
        of_rows = weights @ inverse
        # A mean is estimable where some sum of the observed rows has its weights.
        if not np.allclose(of_rows @ columns, weights, atol=1e-6):
            raise ValueError(f"the mean of {factor} at {level} cannot be estimated from these data")
        mean = float(of_rows @ values)
        # The mean is a weighted sum of the scores, so its variance is that of the error times the
        # sum of the squared weights.
        reach = None
        if freedom:
            variance = float(residual @ residual) / freedom * float(of_rows @ of_rows)
            reach = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * float(np.sqrt(variance))
        found.append(
            Margin(
                factor=factor,
                level=level,
                mean=mean,
                low=None if reach is None else mean - reach,
                high=None if reach is None else mean + reach,
            )
        )
    return found


def _fit(frame: pd.DataFrame, score: str, terms: Sequence[Term], *, block: str | None) -> Fit:
    values = _within(frame[[score]].to_numpy(float), frame, block)[:, 0]
    basis = _basis(frame, terms, block=block)
    # The basis is orthonormal, so this projects out the terms without normal equations, which would
    # square the condition number of collinear columns.
    residual = values - basis @ (basis.T @ values)
    return Fit(squares=float(residual @ residual), rank=basis.shape[1])


def _basis(frame: pd.DataFrame, terms: Sequence[Term], *, block: str | None) -> Floats:
    """Return (N, rank) orthonormal columns that span the terms beside block and constant."""
    columns = _columns(frame, terms, _levels(frame, terms))
    lengths = np.linalg.norm(columns, axis=0)
    # A combination that was never observed has a column of zeros.
    observed = lengths > 0
    columns = _within(columns[:, observed] / lengths[observed], frame, block)
    if not columns.shape[1]:
        return columns
    # Pivoting takes the longest remaining column first, so the diagonal falls, and the first `rank`
    # columns of the basis span what all columns span.
    basis, triangle, _ = linalg.qr(columns, mode="economic", pivoting=True)
    rank = int((np.abs(np.diagonal(triangle)) > NOTHING_LEFT).sum())
    independent: Floats = basis[:, :rank]
    return independent


def _within(columns: Floats, frame: pd.DataFrame, block: str | None) -> Floats:
    """Subtract from each column its means by block; its mean, without a block."""
    if block is None:
        centred: Floats = columns - columns.mean(axis=0)
        return centred
    table = pd.DataFrame(columns)
    means = table.groupby(frame[block].to_numpy()).transform("mean")
    within: Floats = columns - means.to_numpy()
    return within


def _blocks(frame: pd.DataFrame, block: str | None) -> int:
    return 1 if block is None else int(frame[block].nunique())


def _levels(frame: pd.DataFrame, terms: Sequence[Term]) -> dict[str, list[str]]:
    names = dict.fromkeys(chain.from_iterable(terms))
    return {name: sorted(frame[name].unique()) for name in names}


def _columns(
    frame: pd.DataFrame, terms: Sequence[Term], levels: Mapping[str, Sequence[str]]
) -> Floats:
    """Return (N, K) columns of all terms: products of indicators, but for each first level."""
    of_terms = [np.empty((len(frame), 0))]
    for term in terms:
        factors = [_indicators(frame[name], levels[name]) for name in term]
        of_terms.append(reduce(_products, factors))
    return np.hstack(of_terms)


def _indicators(values: "pd.Series[str]", levels: Sequence[str]) -> Floats:
    # The constant (or the blocks) already spans the sum of all indicators: one level less.
    hits = np.equal.outer(values.to_numpy(), np.array(levels[1:], dtype=object))
    indicators: Floats = hits.astype(float)
    return indicators


def _products(one: Floats, other: Floats) -> Floats:
    products: Floats = (one[:, :, None] * other[:, None, :]).reshape(len(one), -1)
    return products
