"""Cost against score, and the score of one stage against that of another."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.figures.style import GREY, legend_below, look, page
from analysis.studies.correlation import SCOPES, Correlation, Point, Rank, mode_name
from analysis.studies.pareto import Cost, Pareto, time_unit
from analysis.table.digits import rounded, with_minus
from occse.naming.labels import Labels


def pareto_plot(
    found: Pareto, names: Mapping[str, str], labels: Labels, *, rule: str = "alone"
) -> Figure:
    """Draw score by cost ± standard deviation over seeds; the front in colour, the rest in grey.

    Args:
        found: of `analysis.studies.pareto`.
        names: what to call each variant.
        labels: names of the scores.
        rule: `alone` or `shared`, how stages that trials share are paid.

    Raises:
        ValueError: the shared cost is unknown.
    """
    is_alone = rule == "alone"
    seconds = {cost.variant: cost.alone_s if is_alone else cost.shared_s for cost in found.costs}
    known = {variant: value for variant, value in seconds.items() if value is not None}
    if len(known) < len(seconds):
        raise ValueError(
            "the shared cost is unknown: MLflow has no seconds by stage of these trials"
        )
    unit, scale = time_unit(max(known.values(), default=0.0))
    ranked = sorted(found.costs, key=lambda cost: known[cost.variant])
    x = {variant: value / scale for variant, value in known.items()}
    front = [cost for cost in ranked if (cost.best_alone if is_alone else cost.best_shared)]
    # The legend has a line for each variant of the front.
    with page(2.2 + 0.13 * len(front)) as (figure, (axes,)):
        for cost in ranked:
            axes.errorbar(
                x[cost.variant],
                100 * cost.score,
                yerr=100 * (cost.std or 0),
                color=GREY,
                marker=".",
                elinewidth=0.6,
            )
        _draw_front(axes, front, x, names)
        axes.set_xlabel(
            f"stage {unit} of a trial, {'alone' if is_alone else 'shared stages divided'}"
        )
        axes.set_ylabel(f"{labels.metric(found.metric)} (%)")
        axes.grid()
        legend_below(figure, axes, columns=1)
    return figure


def _draw_front(
    axes: Axes, front: Sequence[Cost], x: Mapping[str, float], names: Mapping[str, str]
) -> None:
    axes.step(
        [x[cost.variant] for cost in front],
        [100 * cost.score for cost in front],
        color="black",
        # Between two costs the best affordable score is that of the cheaper variant.
        where="post",
        linewidth=0.8,
    )
    for number, cost in enumerate(front):
        style = look(number)
        axes.plot(
            x[cost.variant],
            100 * cost.score,
            style.marker,
            color=style.color,
            markersize=6,
            label=names[cost.variant],
        )


def correlation_plot(
    found: Correlation, labels: Labels, *, first: str = "cam", second: str = "seg"
) -> Figure:
    """Draw the score of `second` by that of `first`, a point for each variant.

    Points are marked by the way of erasing. `labels` has the names of the scores.

    Raises:
        ValueError: the sweep has no such pair of scored stages.
    """
    pair = (first, second)
    ranks = {rank.scope: rank for rank in found.ranks if (rank.first, rank.second) == pair}
    if not ranks:
        stages = ", ".join(found.stages)
        raise ValueError(
            f"no correlation of {first!r} and {second!r}; the scored stages are {stages}"
        )
    modes = list(dict.fromkeys(point.mode for point in found.points))
    with page(2.9) as (figure, (axes,)):
        for number, mode in enumerate(modes):
            own = [point for point in found.points if point.mode == mode]
            _draw_points(axes, own, pair, number=number, label=mode_name(mode, labels))
        texts = [_rank_text(ranks[scope]) for scope in ("all", "within") if scope in ranks]
        axes.set_title("\n".join(texts), fontsize=7)
        axes.set_xlabel(f"{labels.score(first)} (%)")
        axes.set_ylabel(f"{labels.score(second)} (%)")
        axes.grid()
        legend_below(figure, axes, columns=3)
    return figure


def regret_plot(found: Correlation, labels: Labels) -> Figure:
    """Draw the points lost when only the best by a stage go on, by the number that go on."""
    gates = found.stages[:-1]
    with page(2.5) as (figure, (axes,)):
        for number, stage in enumerate(gates):
            regrets = [regret for regret in found.regrets if regret.stage == stage]
            style = look(number)
            axes.plot(
                [regret.kept for regret in regrets],
                [100 * regret.lost for regret in regrets],
                style.dash + style.marker,
                color=style.color,
                label=f"by {labels.score(stage)}",
            )
        # chance loses the same whichever stage it is compared with
        regrets = [regret for regret in found.regrets if regret.stage == gates[0]]
        axes.plot(
            [regret.kept for regret in regrets],
            [100 * regret.by_chance for regret in regrets],
            ":",
            color=GREY,
            label="by chance",
        )
        axes.set_xlabel("variants that went on")
        # in two lines, since the axis is shorter than most names
        axes.set_ylabel(f"points lost of\n{labels.score(found.stages[-1])}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=0)
        axes.grid(axis="y")
        legend_below(figure, axes)
    return figure


def _draw_points(
    axes: Axes, points: Sequence[Point], pair: tuple[str, str], *, number: int, label: str
) -> None:
    first, second = pair
    style = look(number)
    axes.plot(
        [100 * point.scores[first] for point in points],
        [100 * point.scores[second] for point in points],
        style.marker,
        color=style.color,
        alpha=0.8,
        label=label,
    )


def _rank_text(rank: Rank) -> str:
    text = f"Spearman, {SCOPES[rank.scope]}: {rounded(rank.value, 2)}"
    if rank.low is not None and rank.high is not None:
        text += f" ({rounded(rank.low, 2)} to {rounded(rank.high, 2)})"
    return with_minus(text)
