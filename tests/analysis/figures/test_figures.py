"""Figures: what they show, that nothing is cut off, and that the command writes them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Record
from made_counts import IMAGES, write_counts
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from mlflow import MlflowClient
from mlflow.entities import Param
from PIL import Image
from scipy import stats

from analysis.__main__ import main
from analysis.commands.figure import KINDS
from analysis.figures.bars import class_bars, class_deltas, class_errors
from analysis.figures.curves import knob_curves, threshold_curves
from analysis.figures.frames import class_frame, error_frame, threshold_frame
from analysis.figures.grids import heat_map
from analysis.figures.scatter import correlation_plot, pareto_plot, regret_plot
from analysis.figures.style import BETTER, GREY, WORSE
from analysis.read.labels import labels_of, names_of
from analysis.read.mlflow import load
from analysis.statistics.bootstrap import Interval
from analysis.studies.correlation import correlation
from analysis.studies.pareto import pareto

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
ERASING, LAMBDAS, SEEDS = ("class_agnostic", "cse"), (1.0, 10.0), (0, 1)


def score(erasing: str, lambda_start: float, seed: int) -> float:
    return 0.5 + 0.1 * (erasing == "cse") - 0.005 * lambda_start + 0.01 * seed


@pytest.fixture(scope="module")
def trials(record: Record, tracking: str, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """A baseline and erasing x lambda, two seeds each, with counts, panels and seconds."""
    client, folder = MlflowClient(tracking), tmp_path_factory.mktemp("made")
    variants = [("source=oc", None, None)]
    variants += [
        (f"source=cgnet, erasing={e}, lambda_start={x:g}", e, x) for e in ERASING for x in LAMBDAS
    ]
    for order, (variant, erasing, lambda_start) in enumerate(variants):
        for seed in SEEDS:
            value = score(erasing or "", lambda_start or 0.0, seed)
            metrics = {
                "cam/miou": value,
                "seg/miou": value - 0.1,
                "seg/iou/fish": value,
                "cam/threshold": 0.2,
            }
            tags = {
                f"occse.fingerprint.{field}": f"{field}{order}/{seed}" for field in ("cam", "seg")
            }
            tags |= {"occse.seconds.spent": "90", "occse.seconds.saved": "30"}
            tags["occse.seconds"] = json.dumps({"cam": 60.0, "seg": 60.0 + order})
            tags["occse.baseline"] = json.dumps(erasing is None)
            run = record(
                "drawn", variant, order=order, seed=seed, fields=(), metrics=metrics, tags=tags
            )
            knobs = {
                "cam.source": "cgnet",
                "cgnet.erasing": erasing,
                "cgnet.lambda_start": str(lambda_start),
            }
            params = knobs if erasing else {"cam.source": "oc"}
            client.log_batch(run, params=[Param(name, str(knob)) for name, knob in params.items()])
            hits = np.random.default_rng([order, seed]).integers(10, 90, IMAGES)
            write_counts(
                folder / str(order) / f"{seed}" / "cam.npz", hits, thresholds=(0.1, 0.2, 0.3)
            )
            client.log_artifact(run, str(folder / str(order) / f"{seed}" / "cam.npz"), "counts")
            for image in range(5):
                Image.new("RGB", (60, 20), (20 * order, 50 * seed, image)).save(
                    folder / f"image {image}.png"
                )
                client.log_artifact(run, str(folder / f"image {image}.png"), "panels")
    return load("drawn", tracking=tracking)


def figures(trials: pd.DataFrame, tracking: str) -> dict[str, Figure]:
    names = names_of(trials)
    found = Interval(
        value=0.03, low=-0.01, high=0.07, p=0.2, seeds=2, images=10, images_sd=0.01, seed_sd=0.01
    )
    return {
        "curve": knob_curves(
            trials, metric="seg/miou", knob="cgnet.lambda_start", by=["cgnet.erasing"]
        ),
        "heat map": heat_map(
            trials, metric="seg/miou", rows="cgnet.lambda_start", columns="cgnet.erasing"
        ),
        "classes": class_bars(class_frame(trials, "seg", names)),
        "class errors": class_errors(error_frame(trials, "cam", names, tracking=tracking)),
        "class deltas": class_deltas(
            {"fish": found, "potted plant": found}, name="a variant of a rather long name " * 2
        ),
        "thresholds": threshold_curves(threshold_frame(trials, names, tracking=tracking)),
        "pareto": pareto_plot(pareto(trials), names, labels_of(trials)),
        "correlation": correlation_plot(correlation(trials, resamples=20), labels_of(trials)),
        "regret": regret_plot(correlation(trials, resamples=20), labels_of(trials)),
    }


def test_all_text_lies_within_the_figure_and_fits_a_column(
    trials: pd.DataFrame, tracking: str
) -> None:
    for name, figure in figures(trials, tracking).items():
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw(renderer)
        used, (width, height) = figure.get_tightbbox(renderer), figure.get_size_inches()
        assert min(used.x0, used.y0, width - used.x1, height - used.y1) >= -0.01, (
            f"{name} is cut off"
        )
        assert width == pytest.approx(3.3)
        texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
        assert {text.get_fontsize() for text in texts} <= {7, 8}


def test_curves_are_means_over_seeds_in_pooled_t_intervals(trials: pd.DataFrame) -> None:
    axes = knob_curves(
        trials, metric="seg/miou", knob="cgnet.lambda_start", by=["cgnet.erasing"]
    ).axes[0]
    lines = {str(line.get_label()): line for line in axes.lines}
    assert list(lines["CSE"].get_xdata()) == [1, 10]
    assert list(lines["CSE"].get_ydata()) == pytest.approx([50, 45.5])
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "10"]
    assert lines["baseline"].get_ydata()[0] == pytest.approx(40.5)
    heights = axes.collections[1].get_paths()[0].vertices[:, 1]
    # all points move alike from seed to seed, so all of them know no more of the spread than one: t
    # with 1 degree
    assert heights.max() - 50 == pytest.approx(12.706 * 1 / np.sqrt(2) / np.sqrt(2), rel=1e-3)


def test_trials_for_which_a_knob_means_nothing_have_a_line_of_their_own(
    trials: pd.DataFrame,
) -> None:
    axes = knob_curves(trials, metric="seg/miou", knob="cam.source", by=["cgnet.erasing"]).axes[0]
    labels = {str(line.get_label()) for line in axes.lines}
    assert labels >= {"without erasing", "class-agnostic", "CSE"}
    assert axes.get_title() == "averaged over λ", "of no line over the source"
    assert len(axes.containers) == 3, "a band of one point is a bar"


def test_numbers_from_zero_on_have_round_ticks_where_they_are_many(trials: pd.DataFrame) -> None:
    rows = trials[trials["variant"] == "source=oc"].iloc[:1]
    steps = [rows.assign(**{"param.crf.alpha": f"{step}.0"}) for step in range(12)]
    (axes,) = knob_curves(pd.concat(steps), metric="cam/miou", knob="crf.alpha", by=[]).axes
    assert axes.get_xscale() == "linear"
    assert 0 < len(axes.get_xticks()) < 12


def test_values_of_one_label_have_a_line_each_and_a_tick_each(trials: pd.DataFrame) -> None:
    same = {"cgnet.erasing=cse": "ours", "cgnet.erasing=class_agnostic": "ours"}
    same |= {"cgnet.lambda_start=1": "some", "cgnet.lambda_start=10": "some"}
    labelled = trials.assign(labels=json.dumps({"labels": same}))
    knobs = {"knob": "cgnet.lambda_start", "by": ["cgnet.erasing"]}
    axes = knob_curves(labelled, metric="seg/miou", **knobs).axes[0]
    drawn = {str(line.get_label()): list(line.get_ydata()) for line in axes.lines}
    assert drawn["ours (cse)"] == pytest.approx([50, 45.5])
    assert drawn["ours (class_agnostic)"] == pytest.approx([40, 35.5])
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert ticks == ["some (1)", "some (10)"]
    figure = axes.get_figure()
    legend = figure.legends[0].get_window_extent(FigureCanvasAgg(figure).get_renderer())
    assert 0 <= legend.x0 < legend.x1 <= figure.bbox.width, "long labels stand below each other"
    grid = heat_map(labelled, metric="seg/miou", rows="cgnet.erasing", columns="cgnet.lambda_start")
    rows = [label.get_text() for label in grid.axes[0].get_yticklabels()]
    assert rows == ["ours (class_agnostic)", "ours (cse)"]


def test_bands_pool_lines_that_have_different_seeds(trials: pd.DataFrame) -> None:
    metrics = trials["seg/miou"] + 0.02 * (
        (trials["variant"] == "source=oc") & (trials["seed"] == 1)
    )
    more = trials.assign(
        **{"seg/miou": metrics, "seed": trials["seed"] + 5 * (trials["variant"] == "source=oc")}
    )
    axes = knob_curves(more, metric="seg/miou", knob="cam.source", by=["cgnet.erasing"]).axes[0]
    ends = [container.lines[2][0].get_segments()[0][:, 1] for container in axes.containers]
    # variances of 4.5 (two seeds 3 apart) and 0.5, and one point and two
    error = np.sqrt((4.5 + 2 * 0.5) / 3 / 2)
    freedom = (4.5 / 3 + 1 / 3) ** 2 / ((4.5 / 3) ** 2 + (1 / 3) ** 2)
    assert [float(np.ptp(each)) / 2 for each in ends] == pytest.approx(
        [stats.t.ppf(0.975, freedom) * error] * 3
    )


def test_the_heat_map_prints_means_and_standard_deviations_in_percent(trials: pd.DataFrame) -> None:
    figure = heat_map(trials, metric="seg/miou", rows="cgnet.lambda_start", columns="cgnet.erasing")
    assert [text.get_text() for text in figure.axes[0].texts] == [
        "40.0 ± 0.7",
        "50.0 ± 0.7",
        "35.5 ± 0.7",
        "45.5 ± 0.7",
    ]
    assert figure.axes[0].get_title() == ""
    averaged = heat_map(trials, metric="seg/miou", rows="cgnet.lambda_start", columns="cam.source")
    assert averaged.axes[0].get_title() == "averaged over erasing"


def test_the_chosen_threshold_is_marked_on_the_curve_of_its_seed(
    trials: pd.DataFrame, tracking: str
) -> None:
    frame = threshold_frame(trials, {"source=oc": "oc"}, tracking=tracking)
    marks = threshold_curves(frame).axes[0].lines[1]
    assert list(marks.get_xdata()) == pytest.approx([0.2, 0.2])
    assert sorted(marks.get_ydata()) == pytest.approx(
        sorted(100 * frame.loc[np.isclose(frame["threshold"], 0.2), "miou"])
    )


def test_missed_and_false_pixels_and_the_iou_fill_the_union(
    trials: pd.DataFrame, tracking: str
) -> None:
    shares = error_frame(trials, "cam", {"source=oc": "oc"}, tracking=tracking).set_index("class")
    assert shares.loc["fish", ["hit", "missed", "false"]].sum() == pytest.approx(1)
    assert shares.loc["fish", "false"] == 0, "all pixels are fish"
    assert shares.loc["background", "false"] == 1
    bars = class_errors(shares.reset_index()).axes[0].patches
    assert {round(bar.get_x() + bar.get_width()) for bar in bars[-2:]} == {100}


def test_class_deltas_are_coloured_by_holm_s_verdict() -> None:
    sure = Interval(
        value=0.05, low=0.02, high=0.08, p=0.01, seeds=2, images=10, images_sd=0.01, seed_sd=0.01
    )
    worse = Interval(
        value=-0.05, low=-0.08, high=-0.02, p=0.01, seeds=2, images=10, images_sd=0.01, seed_sd=0.01
    )
    unsure = Interval(
        value=0.01, low=-0.02, high=0.04, p=0.5, seeds=2, images=10, images_sd=0.01, seed_sd=0.01
    )
    # its interval holds no 0, and yet it is the third best of four classes: 2 x 0.03 > 0.05
    lucky = replace(sure, value=0.04, p=0.03)
    axes = class_deltas({"a": unsure, "b": sure, "c": worse, "d": lucky}, name="v").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["c", "a", "d", "b"]
    assert [to_hex(patch.get_facecolor()) for patch in axes.patches] == [
        WORSE.lower(),
        GREY,
        GREY,
        BETTER.lower(),
    ]


@pytest.mark.parametrize(
    ("kind", "suffix", "start"), [("curve", "pdf", b"%PDF"), ("deltas", "png", b"\x89PNG")]
)
def test_the_command_writes_the_format_that_the_name_says(
    kind: str, suffix: str, start: bytes, trials: pd.DataFrame, tracking: str, tmp_path: Path
) -> None:
    path = tmp_path / f"figure.{suffix}"
    assert (
        main(
            [
                "figure",
                kind,
                "drawn",
                "--metric",
                "cam/miou",
                "--tracking",
                tracking,
                "--out",
                str(path),
            ]
        )
        == 0
    )
    assert path.read_bytes().startswith(start)


def test_the_command_and_every_kind_explain_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("", *KINDS):
        with pytest.raises(SystemExit) as ended:
            main(["figure", *filter(None, [kind]), "--help"])
        assert ended.value.code == 0
        assert ("--out FILE" if kind else "with 95 % t-intervals") in capsys.readouterr().out


def test_panels_show_three_images_by_both_variants_and_name_those_without_a_panel(
    trials: pd.DataFrame, tracking: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "panels.svg"
    assert (
        main(
            [
                "figure",
                "panels",
                "drawn",
                "--metric",
                "cam/miou",
                "--tracking",
                tracking,
                "--out",
                str(path),
            ]
        )
        == 0
    )
    text = path.read_text()
    for why in ("largest gain", "largest loss", "drawn at random"):
        assert text.count(f"{why}, ") == 2
    out = capsys.readouterr().out
    assert "draw them with `python -m occse panels --images image" in out
    assert "the 5 images that have panels" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["curve", "--knob", "cgnet.lambda"],
            "no trial has the knob 'cgnet.lambda'; these vary: cam.source",
        ),
        (
            ["curve", "--where", "cgnet.erasing=cea"],
            "no trial has it; there are: nan, class_agnostic, cse",
        ),
        (["classes", "--variant", "cse"], "no variant 'cse'; there are: OC; class-agnostic, λ=1"),
        (
            ["class-deltas", "--variant", "CSE, λ=1", "CSE, λ=10"],
            "--variant: this figure shows one variant, got CSE, λ=1, CSE, λ=10",
        ),
        (["curve", "--metric", "crf/miou"], "no trial has crf/miou; there are: cam/miou, seg/miou"),
        (["regret", "--out", "figure.doc"], "expected a file that ends in .pdf, .png, .svg"),
        (["regret", "--out", "nowhere/figure.pdf"], "there is no folder nowhere"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(
    arguments: list[str],
    said: str,
    trials: pd.DataFrame,
    tracking: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    out = [] if "--out" in arguments else ["--out", str(tmp_path / "figure.pdf")]
    kind, *rest = arguments
    assert main(["figure", kind, "drawn", *rest, "--tracking", tracking, *out]) == 2
    assert said in capsys.readouterr().err
