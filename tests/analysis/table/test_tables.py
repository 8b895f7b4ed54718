import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from openpyxl import load_workbook

from analysis.read.mlflow import load
from analysis.table.build import build
from analysis.table.formats.csv_file import to_csv
from analysis.table.formats.html import html
from analysis.table.formats.latex import latex
from analysis.table.formats.latex_letters import escape
from analysis.table.formats.markdown import markdown
from analysis.table.formats.xlsx import xlsx
from analysis.table.model import Table
from analysis.table.spec import TableSpec

# MLflow 3.17 still uses what SQLAlchemy 2.1 calls deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated:sqlalchemy.exc.SADeprecationWarning"
)

GOLDEN = Path(__file__).parents[1] / "golden"
STAGES = ("cam", "crf", "pseudo", "seg")
Record = Callable[..., str]


def scores(*values: float, names: tuple[str, ...] = STAGES) -> dict[str, float]:
    return {f"{name}/miou": value for name, value in zip(names, values, strict=False)}


def at_home(table: Table) -> str:
    return html(table, server="http://127.0.0.1:5000")


def columns(metrics: list[str]) -> TableSpec:
    return TableSpec(metrics=tuple(metrics))


def digits(value: object) -> str:
    """14 digits of a number: Excel's own files have 15 or 16."""
    return f"{value:.14g}" if isinstance(value, int | float) else str(value)


def squeeze(text: str) -> str:
    return re.sub(" +", " ", text)


@pytest.fixture(scope="module")
def trials(record: Record, tracking: str) -> pd.DataFrame:
    """A sweep in the middle: a finished baseline, failures, a running trial, a variant without the
    last stages.

    Scores are such that binary numbers hold them exactly.
    """
    truth = {"occse.pixel_truth": "cam.threshold on train"}
    baseline = {**truth, "occse.baseline": "true"}
    record(
        "quick_50%",
        "cam.source=oc",
        order=0,
        seed=0,
        metrics=scores(30 / 64, 31 / 64, 0.5, 31 / 64),
        tags=baseline,
    )
    record(
        "quick_50%",
        "cam.source=oc",
        order=0,
        seed=1,
        metrics=scores(29 / 64, 0.5, 34 / 64, 33 / 64),
        tags=baseline,
    )
    cse = "cam.source=cgnet, cgnet.lambda_start=1"
    failed = {
        **truth,
        "occse.failed": "pseudo",
        "occse.error": "non-finite loss at step 3\nTraceback",
    }
    record(
        "quick_50%",
        cse,
        order=1,
        seed=0,
        metrics=scores(33 / 64, 34 / 64, 35 / 64, 34 / 64),
        tags=truth,
    )
    record(
        "quick_50%",
        cse,
        order=1,
        seed=1,
        status="FAILED",
        metrics=scores(32 / 64, 35 / 64),
        tags=failed,
    )
    failed_early = {**truth, "occse.failed": "cgnet", "occse.error": "cgnet: killed"}
    lambda_10 = "cam.source=cgnet, cgnet.lambda_start=10"
    record("quick_50%", lambda_10, order=2, seed=0, status="FAILED", tags=failed_early)
    record(
        "quick_50%",
        "class_agnostic",
        order=3,
        seed=0,
        status="RUNNING",
        fields=STAGES[:1],
        tags=truth,
    )
    record(
        "quick_50%",
        "leaf",
        order=4,
        seed=0,
        fields=("cam", "crf"),
        metrics=scores(20 / 64, 20 / 64),
        tags=truth,
    )
    gated = {**truth, "occse.stopped": "crf", "occse.stopped.why": "not among the best 2"}
    record("quick_50%", "gated", order=5, metrics=scores(10 / 64, 10 / 64), tags=gated)
    return load("quick_50%", tracking=tracking)


@pytest.fixture(scope="module")
def table(trials: pd.DataFrame) -> Table:
    return build(trials)


def test_mean_and_sample_standard_deviation_agree_with_numpy(record: Record, tracking: str) -> None:
    values = np.random.default_rng(0).uniform(0.3, 0.7, size=(5, 4))
    for seed, row in enumerate(values):
        record("numbers", "oc", seed=seed, metrics=scores(*row))
    (row,) = build(load("numbers", tracking=tracking)).rows
    np.testing.assert_allclose(
        [cell.mean for cell in row.cells], 100 * values.mean(axis=0), rtol=1e-12
    )
    np.testing.assert_allclose(
        [cell.std for cell in row.cells], 100 * values.std(axis=0, ddof=1), rtol=1e-12
    )
    assert {(cell.n, cell.planned, cell.status) for cell in row.cells} == {(5, 5, "done")}


def test_rows_follow_the_order_of_the_spec(table: Table) -> None:
    assert [row.names[0] for row in table.rows] == [
        "cam.source=oc",
        "cam.source=cgnet, cgnet.lambda_start=1",
        "cam.source=cgnet, cgnet.lambda_start=10",
        "class_agnostic",
        "leaf",
        "gated",
    ]
    assert [row.baseline for row in table.rows] == [True, False, False, False, False, False]


def test_done_failed_pending_empty_and_stopped_cells_are_told_apart(table: Table) -> None:
    assert [[cell.status for cell in row.cells] for row in table.rows] == [
        ["done", "done", "done", "done"],
        ["done", "done", "failed", "failed"],
        ["failed", "failed", "failed", "failed"],
        ["pending", "empty", "empty", "empty"],
        ["done", "done", "empty", "empty"],
        ["done", "done", "stopped", "stopped"],
    ]


def test_mean_of_the_seeds_that_are_there_survives_a_failed_one(table: Table) -> None:
    cell = table.rows[1].cells[2]
    assert (cell.n, cell.planned, cell.std) == (1, 2, None)
    assert cell.mean == pytest.approx(100 * 35 / 64)


@pytest.mark.parametrize(("status", "told"), [("FINISHED", "unscored"), ("KILLED", "pending")])
def test_score_that_will_never_come_is_told_from_one_that_is_late(
    record: Record, tracking: str, status: str, told: str
) -> None:
    record(f"late {status}", "oc", status=status)
    (row,) = build(load(f"late {status}", tracking=tracking)).rows
    assert {cell.status for cell in row.cells} == {told}


def test_best_is_compared_as_printed(record: Record, tracking: str) -> None:
    for order, value in enumerate((0.50049, 0.50011, 0.49961, 0.4994)):
        record("ties", f"variant {order}", order=order, metrics=scores(value))
    table = build(load("ties", tracking=tracking), columns(["cam/miou"]))
    # 50.0, 50.0, 50.0, 49.9
    assert [row.cells[0].best for row in table.rows] == [True, True, True, False]
    assert markdown(table).count("**50.0**") == latex(table).count(r"\bfseries 50.0") == 3


def test_single_seed_has_no_deviation_and_csv_leaves_it_empty(
    record: Record, tracking: str
) -> None:
    record("single", "oc", metrics=scores(0.25))
    table = build(load("single", tracking=tracking), columns(["cam/miou"]))
    assert "| oc | 1 | **25.0** |" in squeeze(markdown(table))
    assert to_csv(table).splitlines() == [
        "variant,metric,mean,std,n,planned,status,unit,low,high,baseline,row_label,column_label",
        "oc,cam/miou,25.0,,1,1,done,%,,,false,oc,CAM mIoU",
    ]


def test_seeds_that_agree_to_the_digit_get_a_word(record: Record, tracking: str) -> None:
    for seed in range(2):
        record("agrees", "oc", seed=seed, metrics=scores(0.5 + 0.0001 * seed), fields=("cam",))
    said = "of two or three seeds that is luck, not a small spread"
    assert said in markdown(build(load("agrees", tracking=tracking), columns(["cam/miou"])))


def test_trials_that_the_sweep_no_longer_asks_for_are_left_out(
    record: Record, tracking: str
) -> None:
    record("changed", "oc", metrics=scores(0.2), tags={"occse.current": "true"})
    record("changed", "oc", metrics=scores(0.1), tags={"occse.current": "false"})
    table = build(load("changed", tracking=tracking))
    assert (table.rows[0].cells[0].n, table.rows[0].cells[0].mean) == (1, 20.0)
    assert "Left out: 1 trial that the sweep's file no longer asks for." in markdown(table)


def test_sweep_that_asks_for_none_of_its_trials_is_an_error(record: Record, tracking: str) -> None:
    record("abandoned", "oc", metrics=scores(0.1), tags={"occse.current": "false"})
    with pytest.raises(ValueError, match="no longer asks for any of its 1 trials"):
        build(load("abandoned", tracking=tracking))


def test_failures_are_told_with_variant_seed_field_and_reason(table: Table) -> None:
    assert table.failures == (
        "λ=1, seed 1: pseudo: non-finite loss at step 3",
        "λ=10, seed 0: cgnet: killed",
    )


def test_what_all_variants_share_leaves_the_labels(record: Record, tracking: str) -> None:
    record("shared", "cam.scales=[1, 2], cam.source=cgnet, cgnet.erasing=cse", order=0)
    record("shared", "cam.scales=[1, 2], cam.source=cgnet, cgnet.erasing=class_agnostic", order=1)
    table = build(load("shared", tracking=tracking))
    assert [row.labels[0] for row in table.rows] == ["CSE", "class-agnostic"]
    assert "All variants: cam.scales=(1 2), CGNet." in markdown(table)
    assert "cam.source=cgnet, cgnet.erasing=cse" in to_csv(table)


def test_variant_without_a_part_of_its_own_says_what_all_share(
    record: Record, tracking: str
) -> None:
    record("prefix", "cam.source=oc", order=0)
    record("prefix", "cam.source=oc, oc.epochs=3", order=1)
    table = build(load("prefix", tracking=tracking))
    assert [row.labels[0] for row in table.rows] == ["OC", "OC, oc.epochs=3"]
    assert "All variants" not in markdown(table)


def test_named_metrics_become_the_columns(record: Record, tracking: str) -> None:
    metrics = {"cam/miou": 0.5, "cam/iou/cat": 0.125, "cam/threshold": 0.165, "cgnet/loss": 0.7}
    record("named", "oc", fields=("cam", "cgnet"), metrics=metrics)
    table = build(
        load("named", tracking=tracking), columns(["cam/iou/cat", "cam/threshold", "cgnet/loss"])
    )
    assert [column.metric for column in table.columns] == [
        "cam/iou/cat",
        "cam/threshold",
        "cgnet/loss",
    ]
    assert "| **12.5** | 0.165 | 0.700 |" in squeeze(markdown(table))  # only scores have a best


def test_unknown_metric_lists_what_there_is(trials: pd.DataFrame) -> None:
    with pytest.raises(
        ValueError, match=r"no trial has a stage 'sge'; there are: cam, crf, pseudo, seg"
    ):
        build(trials, columns(["sge/miou"]))
    with pytest.raises(
        ValueError, match=r"no trial has a metric 'cam/iou/cow'; of this stage there are: cam/miou"
    ):
        build(trials, columns(["cam/iou/cow"]))


def test_sweep_without_a_scored_stage_says_so_and_what_it_measured(
    record: Record, tracking: str
) -> None:
    record("plain", "oc", fields=("data", "oc"), metrics={"oc/loss": 0.5})
    trials = load("plain", tracking=tracking)
    with pytest.raises(
        ValueError,
        match=r"none of the stages .* is scored \(data, oc\); --metric shows .*: oc/loss$",
    ):
        build(trials)
    assert "| oc | 1 | 0.500 |" in squeeze(markdown(build(trials, columns(["oc/loss"]))))


def test_trainings_whose_batches_came_in_parts_are_told(record: Record, tracking: str) -> None:
    for seed, parts in enumerate(('{"cgnet": 2}', "{}")):
        record(
            "parts", "cse", seed=seed, metrics={"cam/miou": 0.5}, tags={"occse.accumulated": parts}
        )
    notes = build(load("parts", tracking=tracking)).notes
    assert [note for note in notes if note.startswith("cgnet: in 1 of 2 trials")]
    assert "went through the network in 2 parts" in notes[-1]


def test_markdown_columns_are_aligned(table: Table) -> None:
    lines = [line for line in markdown(table).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(table.rows)
    assert len({tuple(i for i, letter in enumerate(line) if letter == "|") for line in lines}) == 1


def test_legend_explains_only_what_the_table_uses(record: Record, tracking: str) -> None:
    record("clean", "oc", metrics=scores(0.1, 0.2, 0.3, 0.4))
    table = build(load("clean", tracking=tracking))
    assert not set("✗…–†") & set(markdown(table))
    assert "footnotesize\\raggedright" not in latex(table)


def test_pipe_in_a_label_does_not_break_the_markdown_table(record: Record, tracking: str) -> None:
    record("pipes", "a|b\nc", metrics=scores(0.1))
    assert (
        markdown(build(load("pipes", tracking=tracking))).splitlines()[2].startswith(r"| a\|b c ")
    )


def test_latex_escapes_labels_and_metrics(record: Record, tracking: str) -> None:
    record(
        "escapes",
        "*.seed={1} & 50% #2 a_b ~x^2 $ \\n [x]",
        fields=("cam",),
        metrics={"cam/iou/potted_plant": 0.5},
    )
    text = latex(build(load("escapes", tracking=tracking), columns(["cam/iou/potted_plant"])))
    label = r"{*}.seed=\{1\} \& 50\% \#2 a\_b \textasciitilde{}x\textasciicircum{}2 \$ "
    label += r"\textbackslash{}n {[}x{]}"
    assert f"{label} & \\bfseries 50.0 \\\\" in text
    assert r"potted\_plant" in text
    assert escape("a<b>|c\nd") == r"a\textless{}b\textgreater{}\textbar{}c d"


@pytest.mark.parametrize(
    ("name", "render"),
    [("table.md", markdown), ("table.tex", latex), ("table.csv", to_csv), ("table.html", at_home)],
)
def test_renderings_are_the_golden_ones(
    table: Table, name: str, render: Callable[[Table], str]
) -> None:
    runs = {run.run_id: run for row in table.rows for cell in row.cells for run in cell.sources}
    text = render(table)
    for number, run in enumerate(runs):  # MLflow draws the ids of runs
        text = text.replace(run, f"run{number}")
    text = re.sub(r"/experiments/\d+/", "/experiments/1/", text)
    assert text == (GOLDEN / name).read_text(encoding="utf-8")


def test_all_formats_show_the_same_numbers(table: Table) -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(table))))
    expected = [
        [f"{float(line['mean']):.1f}", *([f"{float(line['std']):.1f}"] if line["std"] else [])]
        for line in lines
        if line["mean"]
    ]
    in_markdown = [
        line.split(" | ")[2:] for line in markdown(table).splitlines()[2:] if line.startswith("|")
    ]
    in_latex = [line.split(" & ")[2:] for line in latex(table).splitlines() if " & " in line][1:]
    # the digits of a column stand before its number where that is underlined
    in_latex = [[re.sub(r"table-format=[^]]*", "", cell) for cell in cells] for cells in in_latex]
    in_html = [
        re.sub(r"<span.*?</span>", "", line).split("<td")[2:]
        for line in html(table).splitlines()
        if "<td" in line
    ]
    for cells_of in (
        in_markdown,
        in_latex,
        [[cell.partition(">")[2] for cell in cells] for cells in in_html],
    ):
        shown = [re.findall(r"\d+\.\d", cell) for cells in cells_of for cell in cells]
        assert [numbers for numbers in shown if numbers] == expected
    sheet = load_workbook(io.BytesIO(xlsx(table)))["table"]
    in_xlsx = [
        row[2 + 4 * place :][:4]
        for row in sheet.iter_rows(min_row=2, values_only=True)
        for place in range(4)
    ]
    for found, line in zip(in_xlsx, lines, strict=True):
        numbers = [float(line[name]) if line[name] else None for name in ("mean", "std", "n")]
        expected_here = [*numbers, line["status"]]
        assert [digits(each) for each in found] == [digits(each) for each in expected_here]


def test_numbers_of_html_lead_to_their_runs(trials: pd.DataFrame, table: Table) -> None:
    text = html(table, server="https://mlflow.example")
    baseline = trials[trials["baseline"]]
    for run, experiment in zip(baseline["run_id"], baseline["experiment_id"], strict=True):
        assert (
            text.count(f'href="https://mlflow.example/#/experiments/{experiment}/runs/{run}?') == 4
        )
    assert "<style>" in text
    assert "<style>" not in html(table, style=False)
    assert "<a " not in html(table), "no link leads anywhere where no address is known"


def test_what_users_wrote_cannot_act_in_html_or_excel(record: Record, tracking: str) -> None:
    record("hostile", "<script>alert(1)</script>", metrics=scores(0.1))
    record("hostile", "=cmd|'/c calc'!A1", order=1, metrics=scores(0.1))
    table = build(load("hostile", tracking=tracking))
    assert "<script>" not in html(table)
    assert "<script>" not in markdown(table).replace(r"\<", "")
    assert "\n'=cmd" in to_csv(table)
    cell = load_workbook(io.BytesIO(xlsx(table)))["table"]["A3"]
    assert (cell.value, cell.data_type) == ("=cmd|'/c calc'!A1", "s")
