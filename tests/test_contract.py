"""Contract between the packages: what `occse` and `sweeps` write is what `analysis` reads.

The second half adds a scored stage, its class and one line in a pipeline, runs a sweep of it, and
finds it wherever a result is shown.
"""

import contextlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from grown_stage import SWEEP, WithGrown
from mlflow import MlflowClient
from mlflow.entities import Run
from schema_words import documented, words_of

import analysis
import sweeps
from analysis.__main__ import main as of_analysis
from analysis.read.counts import iou as read_iou
from analysis.read.counts import miou, read_counts, read_curve
from analysis.read.labels import naming_of
from analysis.read.mlflow import load
from analysis.read.pipeline import pipeline_of, read_pipeline
from analysis.report.make import make_report
from analysis.studies.compare import compare
from analysis.studies.correlation import correlation
from analysis.studies.effects import effects
from analysis.studies.variance import variance
from analysis.table.build import build
from analysis.table.formats.markdown import markdown
from analysis.table.pixel_truth import pixel_truth
from analysis.table.spec import Best
from occse.artifacts.manifest import artifact_folder
from occse.method.evaluation import Counts, iou
from occse.pipeline import (
    STAGES,
    Node,
    Pipeline,
    default_pipeline,
    pipeline_facts,
    scored_fields,
    use_pipeline,
)
from occse.stage import COUNTS
from sweeps.__main__ import main
from sweeps.spec.trials import load_sweep
from sweeps.store.store import Store

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")

SCORED = ("cam", "crf", "pseudo", "seg")
# Deeper than Python's parser of JSON can follow, and no longer than a tag may be.
NESTED = "[" * 4000
# No cluster answers there: a sweep that is in the store needs none.
NOWHERE = "127.0.0.1:1"
# Tags that `analysis` leaves alone, and the reader that each is written for.
NOT_FOR_ANALYSIS = {
    "occse.complete": "sweeps: a run that has it is never written again",
    "occse.constant.": "people: knobs that do not vary",
    "occse.driver": "sweeps: two drivers must not write one record",
    "occse.how": "people: run for this trial or reused",
    "occse.imported.notes": "people: remarks of an import",
    "occse.imported.others": "people: settings that are no knob",
    "occse.label": "people: short name of the variant, by which views group the runs",
    "occse.profile": "people: profile of the sweep",
    "occse.threads": "sweeps: `reproduce` runs on as many",
}
# Files that `analysis` leaves alone: people open them in MLflow.
FOR_PEOPLE = {
    "config.yaml",
    "diff.patch",
    "gallery.html",
    "labels.csv",
    "manifests.json",
    "sweep.yaml",
    "table.csv",
    "table.html",
    "table.md",
    "tables",
}


@pytest.mark.parametrize("field", SCORED)
def test_counts_that_occse_wrote_are_the_same_numbers_in_analysis(
    field: str, small_store: Path, small_node: dict[str, Node]
) -> None:
    path = artifact_folder(small_store, small_node[field]) / COUNTS
    written = Counts.load(path)
    levels = written.confusion()
    thresholds = written.thresholds.tolist() or [None]
    assert len(levels) == len(thresholds)
    for threshold, confusion in zip(thresholds, levels, strict=True):
        read = read_counts(path, threshold=threshold)
        assert (read.names, read.classes) == (written.names, written.classes)
        hits, true, predicted = read.table.sum(axis=0)
        np.testing.assert_array_equal(hits, np.diagonal(confusion))
        np.testing.assert_array_equal(true, confusion.sum(axis=1))
        np.testing.assert_array_equal(predicted, confusion.sum(axis=0))
        np.testing.assert_array_equal(read_iou(read.table.sum(axis=0)), iou(confusion))
    by_threshold = iou(levels).mean(axis=-1)
    assert np.ptp(levels.reshape(len(levels), -1).sum(axis=1)) == 0
    if written.thresholds.size:
        found, curve = read_curve(path)
        np.testing.assert_array_equal(found, written.thresholds.astype(np.float64))
        np.testing.assert_array_equal(curve, by_threshold)
        assert np.ptp(curve) > 0
    else:
        with pytest.raises(ValueError, match="no threshold"):
            read_curve(path)


@pytest.mark.parametrize("field", SCORED)
def test_counts_of_each_image_and_of_subsets_are_the_same_in_analysis(
    field: str, small_store: Path, small_node: dict[str, Node]
) -> None:
    path = artifact_folder(small_store, small_node[field]) / COUNTS
    written = Counts.load(path)
    levels = range(0, max(len(written.thresholds), 1), 10)
    for level in levels:
        threshold = written.thresholds.tolist()[level] if written.thresholds.size else None
        read = read_counts(path, threshold=threshold)
        for name, table in zip(read.names, read.table, strict=True):
            confusion = written.confusion([name])[level]
            margins = [np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0)]
            np.testing.assert_array_equal(table, np.stack(margins))
        some = read.names[::2]
        np.testing.assert_array_equal(
            read_iou(read.only(some).table.sum(axis=0)), iou(written.confusion(some)[level])
        )


@pytest.mark.parametrize("field", SCORED)
def test_score_of_a_stage_follows_in_analysis_from_its_counts(
    field: str, small_store: Path, small_node: dict[str, Node]
) -> None:
    manifest = Store(small_store).manifest(small_node[field])
    assert manifest is not None
    path = artifact_folder(small_store, small_node[field]) / COUNTS
    read = read_counts(path, threshold=manifest.metrics.get("threshold"))
    assert miou(read.table.sum(axis=0)) == manifest.metrics["miou"]
    scores = read_iou(read.table.sum(axis=0))
    for name, score in zip(("background", *read.classes), scores, strict=True):
        assert score == manifest.metrics[f"iou/{name}"]
    assert miou(read.multi.table.sum(axis=0)) == manifest.metrics["miou_multi"]


def test_schema_of_tags_is_read_by_analysis_or_listed_as_not_for_it() -> None:
    root = Path(sweeps.__file__).parent
    written = words_of(root, below="tracking") | words_of(root, below="imports")
    read = words_of(Path(analysis.__file__).parent)
    # no tag, but the text of the PNG files in `maps`
    read -= {"occse.maps"}
    assert written == documented()
    assert read - written == set(), "analysis reads tags that nobody writes"
    assert written - read == set(NOT_FOR_ANALYSIS)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A sweep with the new stage: its file, its store and its record."""

    spec: Path
    store: Path
    tracking: str
    planned: str
    explained: str
    trials: pd.DataFrame


def said(arguments: list[str]) -> str:
    """Run a command of sweeps and return what it prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(arguments) == 0
    return out.getvalue()


@pytest.fixture(scope="module")
def with_grown() -> Iterator[None]:
    use_pipeline(WithGrown)
    yield
    use_pipeline(Pipeline)
    del STAGES["GrowLabels"], STAGES["Measure"]


@pytest.fixture(scope="module")
def place(own_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """The file, the store and the tracking address of the sweep."""
    folder = tmp_path_factory.mktemp("grown")
    (folder / "grown.yaml").write_text(yaml.safe_dump(SWEEP, sort_keys=False))
    return folder / "grown.yaml", own_store, f"sqlite:///{folder}/mlflow.db"


@pytest.fixture(scope="module")
def recorded(with_grown: None, place: tuple[Path, Path, str]) -> Recorded:
    """The sweep, run and recorded by the platform, and what `plan` and `explain` said before."""
    del with_grown
    spec, root, tracking = place
    planned = said(["plan", str(spec), "--all", "--store", str(root)])
    explained = said(["explain", str(spec), "0", "--store", str(root)])
    store = Store(root)
    _, trials = load_sweep(spec)
    for trial in trials:
        for field, node in trial.nodes.items():
            # behind the gate only the platform decides who goes on, see below
            if field != "measure":
                store.execute(node)
    by_variant: dict[str, list[float]] = {}
    for trial in trials:
        manifest = store.manifest(trial.nodes["grown"])
        assert manifest is not None
        by_variant.setdefault(trial.variant, []).append(manifest.metrics["miou"])
    others = {trial.variant for trial in trials if not trial.baseline}
    best = max(others, key=lambda variant: np.mean(by_variant[variant]))
    for trial in trials:
        if trial.baseline or trial.variant == best:
            store.execute(trial.nodes["measure"])
    arguments = [str(spec), "--store", str(root), "--tracking", tracking, "--address", NOWHERE]
    said(["run", *arguments])
    return Recorded(
        spec=spec,
        store=root,
        tracking=tracking,
        planned=planned,
        explained=explained,
        trials=load("grown", tracking=tracking),
    )


def runs_of(recorded: Recorded, kind: str) -> list[Run]:
    client = MlflowClient(recorded.tracking)
    experiment = client.get_experiment_by_name("grown")
    return list(client.search_runs([experiment.experiment_id], f"tags.`occse.kind` = '{kind}'"))


def files_of(recorded: Recorded, run: Run) -> set[str]:
    listed = MlflowClient(recorded.tracking).list_artifacts(run.info.run_id)
    return {file.path for file in listed}


def test_tags_of_a_real_record_are_those_of_the_schema(recorded: Recorded) -> None:
    known = documented()
    prefixes = tuple(word for word in known if word.endswith("."))
    for run in [*runs_of(recorded, "sweep"), *runs_of(recorded, "trial")]:
        own = {tag for tag in run.data.tags if tag.startswith("occse.")}
        assert {tag for tag in own if tag not in known and not tag.startswith(prefixes)} == set()
        assert "occse.kind" in own


def test_files_of_a_real_record_are_read_by_analysis_or_for_people(recorded: Recorded) -> None:
    read_of_sweep = {"pipeline.json", "expectations.json", "configurations.json"}
    (parent,) = runs_of(recorded, "sweep")
    assert files_of(recorded, parent) - FOR_PEOPLE == read_of_sweep
    for run in runs_of(recorded, "trial"):
        assert files_of(recorded, run) - FOR_PEOPLE == {"counts", "maps", "panels"}
    texts = set[str]()
    for path in Path(analysis.__file__).parent.rglob("*.py"):
        texts |= set(re.findall(r'"([\w.]+)(?:/[^"]*)?"', path.read_text(encoding="utf-8")))
    assert {*read_of_sweep, "counts", "maps", "panels"} <= texts
    # written by the command `table` itself, for the run of the sweep
    copies = {"table.csv", "table.html", "table.md"}
    assert not {name for name in FOR_PEOPLE if "." in name} & texts - copies


@pytest.mark.parametrize("key", list(pipeline_facts(Pipeline())["stages"][0]))
def test_every_key_of_pipeline_json_makes_a_difference_to_analysis(key: str) -> None:
    facts = pipeline_facts(default_pipeline())
    told = read_pipeline(json.dumps(facts))
    stages = [dict(stage) for stage in facts["stages"]]
    for stage in stages:
        stage[key] = None
    changed = read_pipeline(json.dumps({**facts, "stages": stages}))
    assert facts.keys() == {"version", "stages"}
    assert changed != told


def test_new_stage_is_in_plan_and_explain(recorded: Recorded) -> None:
    row = next(line for line in recorded.planned.splitlines() if "GrowLabels" in line)
    assert row.split()[:6] == ["grown", "GrowLabels", "8", "8", "0", "8"]
    assert "Gate: after grown, the best 1 and the baseline go on." in recorded.planned
    lacked = next(line for line in recorded.explained.splitlines() if " grown " in line)
    assert lacked.split()[:2] == ["grown", "miss"]
    assert lacked.endswith("no GrowLabels in the store")
    why = said(["explain", str(recorded.spec), "0", "grown", "--store", str(recorded.store)])
    assert why.startswith("grown of trial 0")
    assert "Hit: made" in why
    lacking = recorded.trials[recorded.trials["stopped"] != ""]["order"].iloc[0]
    told = said(["explain", str(recorded.spec), str(lacking), "--store", str(recorded.store)])
    states = {line.split()[0]: line.split()[1] for line in told.splitlines()[2:]}
    assert (states["grown"], states["measure"]) == ("hit", "miss")


def test_gate_behind_the_new_stage_stops_variants_by_its_score(recorded: Recorded) -> None:
    trials = recorded.trials
    means = trials.groupby("variant")["grown/miou"].mean()
    baseline = trials.loc[trials["baseline"], "variant"].iloc[0]
    best = means.drop(baseline).idxmax()
    stopped = trials[trials["stopped"] == "grown"]
    assert set(stopped["variant"]) == set(means.index) - {baseline, best}
    assert stopped["stopped_why"].str.contains("is not among the best 1 of 3").all()
    assert trials["pixel_truth"].str.contains("gate after grown on train").all()
    goes_on = trials[trials["stopped"] == ""]
    assert goes_on["measure/maps"].notna().all()


def test_new_stage_has_counts_tables_and_panels_in_mlflow(
    recorded: Recorded, tmp_path: Path
) -> None:
    run = runs_of(recorded, "trial")[0]
    client = MlflowClient(recorded.tracking)
    assert "occse.not_attached" not in run.data.tags
    folder = Path(client.download_artifacts(run.info.run_id, "", str(tmp_path)))
    read = read_counts(folder / "counts" / "grown.npz")
    assert miou(read.table.sum(axis=0)) == run.data.metrics["grown/miou"]
    tables = folder / "tables" / "grown"
    assert {path.name for path in tables.iterdir()} == {"classes.csv", "confusion.csv"}
    scores = pd.read_csv(tables / "classes.csv").set_index("class")["iou"]
    assert scores["background"] == pytest.approx(run.data.metrics["grown/iou/background"])
    assert json.loads((folder / "manifests.json").read_text())["grown"]["stage"] == "GrowLabels"


def test_new_stage_is_in_the_facts_that_analysis_reads(recorded: Recorded) -> None:
    stages = pipeline_of(recorded.trials)
    assert stages.scored == scored_fields()
    assert "grown" in stages.scored
    assert stages.display_name("grown") == "grown labels"
    assert stages.split_of("grown") == "train"


def test_new_stage_is_a_column_of_the_table(recorded: Recorded) -> None:
    table = build(recorded.trials)
    assert [column.metric for column in table.columns] == ["cam/miou", "grown/miou"]
    (column,) = (column for column in table.columns if column.metric == "grown/miou")
    assert column.pixel_truth == ()
    assert "Grown labels mIoU" in markdown(table)


def test_split_of_a_new_stage_is_told_where_its_score_chose_something(recorded: Recorded) -> None:
    facts = json.loads(recorded.trials["pipeline"].iloc[0])
    for stage in facts["stages"]:
        if stage["field"] == "grown":
            stage["scored_split"] = "val"
    trials = recorded.trials.assign(pipeline=json.dumps(facts), pixel_truth="")
    best = Best(of=("grown.pixels",), by="grown/miou")
    chosen = pixel_truth("grown/miou", trials, best=best, naming=naming_of(trials))
    assert any("pixel ground truth of val" in sentence for sentence in chosen)
    assert pixel_truth("measure/miou", trials, best=None, naming=naming_of(trials)) == (
        "A gate after grown labels chose with the pixel ground truth of val which variants went on",
    )


def test_new_stage_is_compared_by_its_counts(recorded: Recorded) -> None:
    found = compare(recorded.trials, "grown", tracking=recorded.tracking, resamples=200)
    assert len(found) == 3


def test_new_stage_has_a_variance_by_the_seeds_upstream(recorded: Recorded) -> None:
    found = variance(recorded.trials, "grown", tracking=recorded.tracking)
    assert found.metric == "grown/miou"
    assert found.images == 8
    assert found.runs == 2
    named = {stage for component in found.components for stage in component.stages}
    assert named <= {"pretrain", "oc", "cgnet"}
    assert "oc" in named


def test_new_stage_has_effects_of_its_knob(recorded: Recorded) -> None:
    found = effects(recorded.trials, metric="grown/miou", forest=False)
    (group,) = found.groups
    terms = {row.term for row in group.rows}
    assert terms == {("cam.source",), ("grown.pixels",), ("cam.source", "grown.pixels")}
    assert {margin.factor for margin in group.margins} >= {"grown.pixels"}


def test_new_stage_correlates_with_the_stage_that_it_rests_on(recorded: Recorded) -> None:
    found = correlation(recorded.trials, resamples=50)
    assert found.stages == ("cam", "grown")
    assert {(rank.first, rank.second) for rank in found.ranks} == {("cam", "grown")}


def test_new_stage_is_in_the_report(recorded: Recorded, tmp_path: Path) -> None:
    assert list(
        make_report(
            ["grown"],
            tmp_path / "report",
            tracking=recorded.tracking,
            server="",
            again="python -m analysis report grown",
            progress=lambda line: None,
        )
    )
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "Grown labels mIoU" in page
    tables = tmp_path / "report" / "tables"
    assert set(pd.read_csv(tables / "results.csv")["metric"]) == {"cam/miou", "grown/miou"}
    assert len(pd.read_csv(tables / "comparison_grown.csv")) == 3
    for name in ("correlation", "expectations", "runs", "supervision"):
        assert "grown" in (tables / f"{name}.csv").read_text(encoding="utf-8"), name
    assert "pixels" in (tables / "effects.csv").read_text(encoding="utf-8")


@contextlib.contextmanager
def changed_tags(recorded: Recorded, run: Run, tags: dict[str, str]) -> Iterator[None]:
    """Give a run other tags, as everybody who reaches the server can, and its own ones back."""
    client = MlflowClient(recorded.tracking)
    for tag, text in tags.items():
        client.set_tag(run.info.run_id, tag, text)
    yield
    for tag in tags:
        client.set_tag(run.info.run_id, tag, run.data.tags.get(tag, "{}"))


def test_tag_nested_too_deeply_is_a_clear_error_or_is_ignored(
    recorded: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (parent,) = runs_of(recorded, "sweep")
    run = runs_of(recorded, "trial")[0]
    tracking = ["--tracking", recorded.tracking]
    structured = {tag for tag, text in run.data.tags.items() if text.startswith(("{", "["))}
    read = structured | {"occse.accumulated", "occse.other_code", "occse.protocol"}
    for tag in read - NOT_FOR_ANALYSIS.keys() - {"mlflow.log-model.history"}:
        with changed_tags(recorded, run, {tag: NESTED}):
            assert of_analysis(["table", "grown", *tracking]) == 2, tag
        assert f"run {run.info.run_id}: tag {tag} is '[[" in capsys.readouterr().err
    for tag in ("occse.threads", "occse.packages"):
        with changed_tags(recorded, run, {tag: NESTED}):
            command = ["reproduce", run.info.run_id, "--store", str(tmp_path), *tracking]
            assert main(command) == 2
        assert f"run {run.info.run_id}: tag {tag} is '[[" in capsys.readouterr().err
    # those of the sweep's run, and the views that MLflow's pages show, are written anew
    client = MlflowClient(recorded.tracking)
    views = client.get_experiment(run.info.experiment_id).tags
    for tag in views.keys() - {"mlflow.note.content"}:
        client.set_experiment_tag(run.info.experiment_id, tag, NESTED)
    own = {tag: NESTED for tag, text in parent.data.tags.items() if text.startswith(("{", "["))}
    with changed_tags(recorded, parent, own | {"occse.driver": NESTED}):
        store = ["--store", str(recorded.store), "--address", NOWHERE]
        assert main(["run", str(recorded.spec), *store, *tracking]) == 0
    assert of_analysis(["table", "grown", *tracking]) == 0
    again = client.get_experiment(run.info.experiment_id).tags
    assert again.keys() == views.keys() != set()
    assert NESTED not in again.values()
