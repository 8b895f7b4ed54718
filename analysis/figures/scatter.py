"""Cost against score, and the score of one stage against that of another."""

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.figures.style import COLORS, DASHES, GREY, MARKERS, legend_below, page
from analysis.studies.correlation import Correlation, Point, Rank
from analysis.studies.pareto import Pareto


def pareto_plot(found: Pareto, names: Mapping[str, str], *, rule: str = "alone") -> Figure:
    """Score by cost, with the sample standard deviation over seeds; the front in colour, what it
    beats in grey.

    Args:
        found: of `analysis.studies.pareto`.
        names: what to call each variant.
        rule: `alone` or `shared`, how stages that trials share are paid.

    Raises:
        ValueError: the shared cost is unknown.
    """
    seconds = [each.alone_s if rule == "alone" else each.shared_s for each in found.costs]
    if None in seconds:
        raise ValueError(
            "the shared cost is unknown: MLflow has no seconds by stage of these trials"
        )
    unit, scale = (
        ("hours", 3600) if max(filter(None, seconds), default=0) > 7200 else ("minutes", 60)
    )
    points = sorted(
        ((each, (cost or 0) / scale) for each, cost in zip(found.costs, seconds, strict=True)),
        key=lambda item: item[1],
    )
    ahead = [
        (each, cost)
        for each, cost in points
        if (each.best_alone if rule == "alone" else each.best_shared)
    ]
    with page(2.2 + 0.13 * len(ahead)) as (figure, (axes,)):
        for each, cost in points:
            axes.errorbar(
                cost,
                100 * each.score,
                yerr=100 * (each.std or 0),
                color=GREY,
                marker=".",
                elinewidth=0.6,
            )
        axes.step(
            [cost for _, cost in ahead],
            [100 * each.score for each, _ in ahead],
            color="black",
            where="post",
            linewidth=0.8,
        )
        for number, (each, cost) in enumerate(ahead):
            color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
            axes.plot(
                cost, 100 * each.score, marker, color=color, markersize=6, label=names[each.variant]
            )
        axes.set_xlabel(
            f"stage {unit} of a trial, {'alone' if rule == 'alone' else 'shared stages divided'}"
        )
        axes.set_ylabel(f"{found.metric} (%)")
        axes.grid()
        legend_below(figure, axes, columns=1)
    return figure


def correlation_plot(found: Correlation, *, first: str = "cam", second: str = "seg") -> Figure:
    """The score of `second` by that of `first`, a point for each variant, marked by its way of
    erasing.

    Raises:
        ValueError: the sweep has no such pair of scored stages.
    """
    ranks = {
        rank.scope: rank for rank in found.ranks if (rank.first, rank.second) == (first, second)
    }
    if not ranks:
        raise ValueError(
            f"no correlation of {first!r} and {second!r}; the scored stages are {', '.join(found.stages)}"
        )
    with page(2.9) as (figure, (axes,)):
        for number, mode in enumerate(dict.fromkeys(point.mode for point in found.points)):
            _points(
                axes,
                [point for point in found.points if point.mode == mode],
                (first, second),
                number=number,
            )
        texts = [_rank_text(ranks[scope]) for scope in ("all", "within") if scope in ranks]
        axes.set_title("\n".join(texts), fontsize=7)
        axes.set_xlabel(f"{first}/miou (%)")
        axes.set_ylabel(f"{second}/miou (%)")
        axes.grid()
        legend_below(figure, axes, columns=3)
    return figure


def regret_plot(found: Correlation) -> Figure:
    """What the best variant would have lost, had only the best by a stage gone on, by their number."""
    with page(2.5) as (figure, (axes,)):
        for number, stage in enumerate(found.stages[:-1]):
            chosen = [regret for regret in found.regrets if regret.stage == stage]
            style = DASHES[number % len(DASHES)] + MARKERS[number % len(MARKERS)]
            color = COLORS[number % len(COLORS)]
            axes.plot(
                [each.kept for each in chosen],
                [100 * each.lost for each in chosen],
                style,
                color=color,
                label=f"by {stage}/miou",
            )
        axes.plot(
            [each.kept for each in chosen],
            [100 * each.by_chance for each in chosen],
            ":",
            color=GREY,
            label="by chance",
        )
        axes.set_xlabel("variants that went on")
        axes.set_ylabel(f"{found.stages[-1]}/miou lost (points)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=0)
        axes.grid(axis="y")
        legend_below(figure, axes)
    return figure


def _points(axes: Axes, points: list[Point], pair: tuple[str, str], *, number: int) -> None:
    x, y = ([100 * point.scores[stage] for point in points] for stage in pair)
    axes.plot(
        x,
        y,
        MARKERS[number % len(MARKERS)],
        color=COLORS[number % len(COLORS)],
        alpha=0.8,
        label=points[0].mode,
    )


def _rank_text(rank: Rank) -> str:
    ends = "" if rank.low is None or rank.high is None else f" ({rank.low:.2f} to {rank.high:.2f})"
    what = "all variants" if rank.scope == "all" else "within a way of erasing"
    return f"Spearman, {what}: {rank.value:.2f}{ends}"
