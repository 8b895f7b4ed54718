"""Tables of chosen rows and columns, the guard and the ledger, from recorded trials."""

import io
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from openpyxl import load_workbook

from analysis.__main__ import main
from analysis.read.mlflow import load
from analysis.read.yaml_file import SpecError, YamlFile
from analysis.table.build import build
from analysis.table.formats.csv_file import to_csv
from analysis.table.formats.markdown import markdown
from analysis.table.formats.xlsx import xlsx
from analysis.table.model import Table
from analysis.table.spec import Best, LadderStep, TableSpec, read_table_spec

# MLflow 3.17 still uses what SQLAlchemy 2.1 calls deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated:sqlalchemy.exc.SADeprecationWarning"
)

Record = Callable[..., str]
PAPER = {
    "data.kind": "voc",
    "cgnet.backbone": "resnet38",
    "oc.backbone": "resnet38",
    "cgnet.lambda_slope": "0.05",
}


@pytest.fixture(scope="module")
def trials(record: Record, tracking: str) -> pd.DataFrame:
    """Lambda x alpha x 2 seeds and an ordinary classifier; alpha reaches crf and seg, both alphas
    share a CAM.
    """
    record(
        "grid",
        "source=oc",
        params={"cam.source": "oc"},
        metrics={"cam/miou": 0.25},
        tags={"occse.baseline": "true"},
    )
    for place, (weight, alpha, seed) in enumerate(
        (w, a, s) for w in (1, 10) for a in (6, 4) for s in (0, 1)
    ):
        cam, crf = (
            weight / 64 + 0.25 + seed / 32,
            0.5 + (alpha == 4) * weight / 100 - (weight == 1) * alpha / 100,
        )
        record(
            "grid",
            f"lambda_start={weight}, alpha={alpha}",
            order=place + 1,
            seed=seed,
            params={
                "cam.source": "cgnet",
                "cgnet.lambda_start": f"{weight}.0",
                "crf.alpha": f"{alpha}.0",
            },
            metrics={"cam/miou": cam, "crf/miou": crf, "seg/miou": cam + alpha / 64},
            tags={"occse.fingerprint.cam": f"cam {weight} {seed}"},
        )
    return load("grid", tracking=tracking)


def means(table: Table) -> dict[tuple[str, ...], list[float | None]]:
    return {row.names: [cell.mean for cell in row.cells] for row in table.rows}


def test_knobs_make_rows_and_columns(trials: pd.DataFrame) -> None:
    table = build(
        trials, TableSpec(rows=("lambda_start",), columns=("crf.alpha",), metrics=("seg/miou",))
    )
    assert table.heads == ("lambda_start",)
    # numbers by size
    assert [column.label for column in table.columns] == ["α=–", "α=4", "α=6"]
    expected = {
        ("–",): [None, None, None],
        ("1",): [None, 100 * (17 / 64 + 1 / 64 + 4 / 64), 100 * (17 / 64 + 1 / 64 + 6 / 64)],
        ("10",): [None, 100 * (26 / 64 + 1 / 64 + 4 / 64), 100 * (26 / 64 + 1 / 64 + 6 / 64)],
    }
    assert means(table) == expected
    # one best of a metric
    assert [[cell.best for cell in row.cells] for row in table.rows][2] == [False, False, True]
    heads = to_csv(table).splitlines()[0]
    assert heads.startswith("cgnet.lambda_start,cam.source,crf.alpha,metric,mean,std,")
    assert "0.276 at alpha 4, 0.222 at alpha 6" in markdown(table)


def test_an_artifact_that_trials_share_counts_once(trials: pd.DataFrame) -> None:
    table = build(trials, TableSpec(rows=("lambda_start",), metrics=("cam/miou",)))
    assert [(row.seeds, row.cells[0].n, row.cells[0].planned) for row in table.rows] == [
        (1, 1, 1),
        (2, 2, 2),
        (2, 2, 2),
    ]
    assert table.rows[1].cells[0].std == pytest.approx(100 / 32 / 2**0.5)


def test_one_artifact_behind_two_seeds_is_told_and_has_no_deviation(
    record: Record, tracking: str
) -> None:
    for seed in (0, 1):
        record(
            "shared cam",
            "oc",
            seed=seed,
            metrics={"cam/miou": 0.5},
            tags={"occse.fingerprint.cam": "one"},
        )
    table = build(load("shared cam", tracking=tracking), TableSpec(metrics=("cam/miou",)))
    assert "| oc      |   2 | **50.0** (n=1) |" in markdown(table)


def test_a_mean_over_more_than_seeds_is_refused_with_the_knob(trials: pd.DataFrame) -> None:
    with pytest.raises(
        SpecError,
        match=(
            r"lambda_start=1 would average over more than the seed: crf.alpha \(6, 4\); "
            "add it to `rows`"
        ),
    ):
        build(trials, TableSpec(rows=("lambda_start",), metrics=("seg/miou",)))


def test_where_selects_trials(trials: pd.DataFrame) -> None:
    spec = TableSpec(
        rows=("lambda_start",), metrics=("seg/miou",), where={"alpha": 4, "lambda_start": [1, 10]}
    )
    assert list(means(build(trials, spec))) == [("1",), ("10",)]
    baseline = TableSpec(metrics=("cam/miou",), where={"cgnet.lambda_start": None})
    assert list(means(build(trials, baseline))) == [("source=oc",)]


def test_the_best_value_is_chosen_on_one_metric_and_shown_of_another(trials: pd.DataFrame) -> None:
    best = Best(of=("alpha",), by="crf/miou")
    table = build(trials, TableSpec(rows=("lambda_start",), metrics=("seg/miou",), best=best))
    # crf/miou is best at 4 for both, seg/miou at 6: the honest number is the one at 4
    assert means(table)[("10",)] == [100 * (26 / 64 + 1 / 64 + 4 / 64)]
    assert table.rows[2].cells[0].chosen == "4"
    assert (
        "α was chosen by CRF mIoU, so with the pixel ground truth of train: Segmentation "
        "mIoU is more" in markdown(table)
    )
    same = build(
        trials,
        TableSpec(
            rows=("lambda_start",), metrics=("seg/miou",), best=Best(of=("alpha",), by="seg/miou")
        ),
    )
    assert "with the pixel ground truth of val, the very numbers that are shown" in markdown(same)


def test_where_the_choice_cannot_be_made_the_cell_has_no_score(
    record: Record, tracking: str
) -> None:
    for order, alpha in enumerate(("4.0", "6.0")):
        record(
            "early choice",
            alpha,
            order=order,
            params={"crf.alpha": alpha},
            metrics={"cam/miou": 0.5},
        )
    spec = TableSpec(
        rows=("experiment",), metrics=("cam/miou",), best=Best(of=("alpha",), by="crf/miou")
    )
    ((cell,),) = (row.cells for row in build(load("early choice", tracking=tracking), spec).rows)
    assert (cell.status, cell.mean, cell.planned) == ("unscored", None, 2)


def test_a_ladder_has_a_difference_per_step(trials: pd.DataFrame) -> None:
    steps = (
        LadderStep(name="classifier", where={"cam.source": "oc"}),
        LadderStep(name="+ erasing", where={"lambda_start": 1, "alpha": 4}),
        LadderStep(name="+ lambda", where={"lambda_start": 10, "alpha": 4}),
    )
    table = build(trials, TableSpec(steps=steps, metrics=("cam/miou",), delta="previous"))
    assert [cell.delta for row in table.rows for cell in row.cells] == [
        None,
        pytest.approx(100 / 32),
        pytest.approx(900 / 64),
    ]
    assert "| + lambda              |   2 | **42.2 ± 2.2** (+14.1) |" in markdown(table)
    sheet = load_workbook(io.BytesIO(xlsx(table)))["table"]
    assert [cell.value for cell in sheet[1]] == [
        "step",
        "n",
        "CAM mIoU",
        "CAM mIoU std",
        "CAM mIoU n",
        "CAM mIoU difference",
    ]
    assert [sheet["F2"].value, sheet["F3"].value] == [None, pytest.approx(100 / 32)]
    against = build(trials, TableSpec(steps=steps, metrics=("cam/miou",), delta="baseline"))
    assert against.rows[2].cells[0].delta == pytest.approx(100 / 32 + 900 / 64)


def test_baseline_of_the_table_takes_the_place_of_the_sweeps(trials: pd.DataFrame) -> None:
    spec = TableSpec(
        rows=("lambda_start",),
        metrics=("cam/miou",),
        baseline={"lambda_start": 10},
        delta="baseline",
    )
    table = build(trials, spec)
    assert [row.baseline for row in table.rows] == [False, False, True]
    assert table.rows[1].cells[0].delta == pytest.approx(-900 / 64)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            TableSpec(rows=("lamda_start",)),
            "rows.0: 'lamda_start' is not a knob of these trials; near are: cgnet.lambda_start",
        ),
        (TableSpec(rows=("seed", "cam.sauce")), "rows.1: 'cam.sauce' is not a knob"),
        (TableSpec(columns=("alpha", "cgnet.alpha")), "columns.1: 'cgnet.alpha' is not a knob"),
        (TableSpec(where={"alpha": 5}), "where.alpha: no trial has 5; there are: –, 6, 4"),
        (
            TableSpec(where={"alpha": 4, "cam.source": "oc"}),
            "where: no trial has all of these values at once",
        ),
        (
            TableSpec(best=Best(of=("alpha",), by="crf/iou")),
            "best.by: no trial has a metric 'crf/iou'",
        ),
    ],
)
def test_what_the_trials_do_not_have_is_refused_with_the_key(
    trials: pd.DataFrame, spec: TableSpec, message: str
) -> None:
    with pytest.raises(SpecError, match=message.replace("(", r"\(")):
        build(trials, spec)


def test_a_file_of_a_table_is_read_and_overrides_nothing(
    trials: pd.DataFrame, tracking: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "table.yaml"
    path.write_text(
        "title: Which lambda?\nrows: [lambda_start]\nmetrics: [cam/miou]\n"
        "where:\n  cam.source: cgnet\n"
    )
    assert main(["table", "grid", "--tracking", tracking, "--spec", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "Which lambda?" in printed
    assert "| 10  |   2 | **42.2 ± 2.2** |" in printed
    assert (
        main(["table", "grid", "--tracking", tracking, "--spec", str(path), "--rows", "alpha"]) == 2
    )
    assert "--spec FILE excludes --rows: write rows into" in capsys.readouterr().err
    path.write_text(path.read_text().replace("cgnet", "cgnett"))
    assert main(["table", "grid", "--tracking", tracking, "--spec", str(path)]) == 2
    assert (
        f"{path}:5: where.cam.source: no trial has cgnett; there are: oc, cgnet"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title: a\nrow: [x]\n", ":2: row: unknown key; allowed are title, rows, columns"),
        (
            "rows: [x]\nsteps:\n  - name: a\n    were: {}\n",
            ":4: steps.0.were: unknown key; allowed are name, where",
        ),
        ("metrics: [miou]\n", ":1: metrics.0: String should match pattern"),
        ("title: a\ndelta: next\n", ":2: delta: Input should be 'previous' or 'baseline'"),
        ("rows: [a]\ncolumns: [a]\n", ":1: a is in `rows` and in `columns`"),
        ("where:\n  a: 1\n  a: 2\n", ":3: this is not YAML of a table: the key a stands here"),
        ("- rows\n", ":1: expected keys and values; allowed are title"),
        ("rows: [\n", ":2: this is not YAML"),
        ("rows: !!python/object/apply:os.system [id]\n", ":1: this is not YAML"),
        (
            "title: |\n" + 700_000 * "ß" + "\nrow: [x]\n",
            ": this is not YAML of a table: it has more",
        ),
    ],
)
def test_faults_of_a_file_are_told_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "table.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"table\.yaml") as raised:
        read_table_spec(YamlFile(path, kind="a table"))
    assert f"{path}{message}" in str(raised.value)


@pytest.mark.parametrize("argument", ["lambda_start", "=1"])
def test_where_of_the_command_line_needs_a_value(
    argument: str, trials: pd.DataFrame, tracking: str
) -> None:
    assert main(["table", "grid", "--tracking", tracking, "--where", argument]) == 2


def test_numbers_that_cannot_be_compared_are_refused_or_marked(
    record: Record, tracking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for order, (variant, crf) in enumerate((("plain", "none"), ("ours", "deeplab"))):
        knobs = {"seg.split": "val", "seg.crf": crf, "seg.scales": "[1.0]", "seg.flip": "true"}
        record(
            "mixed", variant, order=order, fields=("seg",), params=knobs, metrics={"seg/miou": 0.5}
        )
    command = ["table", "mixed", "--tracking", tracking]
    assert main(command) == 2
    refused = capsys.readouterr().err
    assert (
        "Segmentation mIoU mixes CRF presets that the names do not tell: none (1 runs), "
        "deeplab (1 runs)" in refused
    )
    assert main([*command, "--allow-mixed"]) == 0
    marked = capsys.readouterr().out
    assert "Segmentation mIoU§" in marked
    assert "§ Segmentation mIoU mixes CRF presets" in marked
    assert main([*command, "--rows", "seg.crf"]) == 0, (
        "where the rows say it, it is what the table is about"
    )


def test_the_classifiers_own_maps_may_start_elsewhere_but_no_two_erasers(
    record: Record, tracking: str
) -> None:
    for order, (variant, source, init) in enumerate(
        (("own", "oc", "a.pth"), ("ours", "cgnet", "b.pth"))
    ):
        knobs = {"cam.source": source, "oc.init": "a.pth", "cgnet.init": init}
        record(
            "starts", variant, order=order, fields=("cam",), params=knobs, metrics={"cam/miou": 0.5}
        )
    assert build(load("starts", tracking=tracking)).columns[0].mixed == ()
    other = {"cam.source": "cgnet", "cgnet.init": "c.pth"}
    record("starts", "theirs", order=2, fields=("cam",), params=other, metrics={"cam/miou": 0.5})
    with pytest.raises(
        ValueError,
        match=r"mixes start weights .*: file a.pth \(1 runs\), file b.pth .*, file c.pth",
    ):
        build(load("starts", tracking=tracking))


def test_maps_of_another_method_stand_beside_own_ones_and_hide_no_mixture(
    record: Record, tracking: str
) -> None:
    outside = {"cam.source": "cams", "cams.digest": "ab"}
    own = {"cam.source": "cgnet", "cgnet.init": "a.pth", "cam.flip": "true"}
    for order, (variant, knobs) in enumerate(
        (("IRN", outside), ("ours", own | {"cam.scales": "[1.0]"}))
    ):
        record("methods", variant, order=order, params=knobs, metrics={"cam/miou": 0.5})
    assert build(load("methods", tracking=tracking)).columns[0].mixed == ()
    finer = own | {"cam.scales": "[0.5, 1.0]"}
    record("methods", "theirs", order=2, params=finer, metrics={"cam/miou": 0.5})
    expected = r"mixes test scales .*: 1 mirrored \(1 runs\), 0.5 1 mirrored \(1 runs\)"
    with pytest.raises(ValueError, match=expected):
        build(load("methods", tracking=tracking))


def test_other_files_of_one_kind_of_data_are_not_compared(record: Record, tracking: str) -> None:
    for experiment, digest in (("old files", "aaaa"), ("new files", "bbbb"), ("unknown files", "")):
        record(
            experiment,
            "oc",
            metrics={"cam/miou": 0.5},
            fields=("cam",),
            tags={"occse.data": digest},
        )
    with pytest.raises(
        ValueError, match=r"mixes files of a data set .*: aaaa \(1 runs\), bbbb \(1 runs\)\n"
    ):
        build(load("old files", "new files", "unknown files", tracking=tracking))
    assert len(build(load("new files", "unknown files", tracking=tracking)).rows) == 2, (
        "what is not known is no difference"
    )


def test_a_search_used_pixel_truth_for_every_number_and_a_gate_for_those_behind_it(
    record: Record, tracking: str
) -> None:
    tags = {
        "occse.pixel_truth": (
            "cam.threshold on train, gate after crf on train, search for seg/miou on val"
        )
    }
    record(
        "searched",
        "oc",
        metrics={f"{stage}/miou": 0.5 for stage in ("cam", "crf", "pseudo", "seg")},
        tags=tags,
    )
    search = (
        "A search for the best Segmentation mIoU chose with the pixel ground truth of val which "
        "variants there are"
    )
    gate = "A gate after crf chose with the pixel ground truth of train which variants went on"
    threshold = "CAM threshold was chosen with the pixel ground truth of train"
    table = build(load("searched", tracking=tracking))
    assert {column.metric: column.pixel_truth for column in table.columns} == {
        "cam/miou": (threshold, search),
        "crf/miou": (search,),
        "pseudo/miou": (gate, search),
        "seg/miou": (gate, search),
    }


def test_what_an_imported_run_does_not_tell_of_pixel_truth_is_a_doubt(
    record: Record, tracking: str
) -> None:
    tags = {"occse.imported": "old.csv", "occse.protocol": '{"cam": {"pixel_truth": "unknown"}}'}
    record("doubtful", "old", fields=("cam",), metrics={"cam/miou": 0.5}, tags=tags)
    text = markdown(build(load("doubtful", tracking=tracking)))
    assert "CAM mIoU†" in text
    assert (
        "† What pixel ground truth chose for imported runs is not known: CAM mIoU may be more than "
        "image" in text
    )


def test_the_papers_numbers_stand_where_they_hold(record: Record, tracking: str) -> None:
    for order, (source, weight) in enumerate((("oc", "0.3"), ("cgnet", "0.3"), ("cgnet", "1.0"))):
        knobs = PAPER | {"cam.source": source, "cgnet.lambda_start": weight, "cgnet.erasing": "cse"}
        record(
            "voc",
            f"source={source}, lambda_start={weight}",
            order=order,
            params=knobs,
            metrics={"cam/miou": 0.5},
        )
    table = build(load("voc", tracking=tracking), TableSpec(metrics=("cam/miou",), paper=True))
    assert means(table) == {
        ("source=oc, lambda_start=0.3",): [50.0, 47.7],
        ("source=cgnet, lambda_start=0.3",): [50.0, 56.0],
        ("source=cgnet, lambda_start=1.0",): [50.0, None],
    }
    text = markdown(table)
    assert (
        "Paper, 56.0: CAM of CGNet, voc train, ResNet-38; the author, KAIST-vilab/OC-CSE issue 3"
        in text
    )
    assert text.count("**") == 6, "the paper's numbers are not judged with ours"


def test_the_papers_numbers_do_not_stand_beside_other_data(trials: pd.DataFrame) -> None:
    table = build(trials, TableSpec(metrics=("cam/miou",), paper=True))
    assert len(table.columns) == 1
    assert "None of the paper's numbers holds for these trials" in markdown(table)
