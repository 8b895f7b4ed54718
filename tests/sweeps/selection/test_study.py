"""Suggestions of a real Optuna study in a database, on a store of probe stages."""

import json
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest

from sweeps.selection.study import Search, open_study
from sweeps.spec.model import Spec
from sweeps.spec.trials import Trial
from sweeps.store.store import Store

SPACE = {
    "cgnet.erasing": ["class_agnostic", "cse"],
    "cgnet.lambda_start": {"from": 0.1, "to": 20, "log": True},
}


def spec_of(
    folder: Path, *, space: dict[str, Any] | None = None, trials: int = 6, **search: Any
) -> Spec:
    what = {"trials": trials, "objectives": {"pseudo/miou": "max"}, "space": space or SPACE}
    where = {"storage": f"sqlite:///{folder}/optuna.db"}
    rest = {key: search.pop(key) for key in ("constraints", "seeds", "base") if key in search}
    return Spec(name="s", question="?", profile="embedded", search=what | where | search, **rest)


class Outcomes(Search):
    """Suggestions whose trials have scores by a formula, for they are not run here."""

    def _value(self, objective: str, trial: Trial) -> float:
        cgnet = trial.pipeline.cgnet
        erasing = 1.0 if cgnet.erasing == "cse" else 0.0
        hours = trial.seed if objective == "hours" else 0.0
        return erasing - abs(cgnet.lambda_start - 1) / 20 + hours


def suggestions(spec: Spec, folder: Path, *, create: bool = True) -> Outcomes:
    return Outcomes(spec, store=Store(folder / "store"), first=1, create=create)


def tell_all(made: Search) -> list[list[Trial]]:
    """Ask until none is left, and let every variant come to its end."""
    found = []
    while trials := made.ask():
        made.end(trials[0].variant, trials, stopped=False)
        found.append(trials)
    return found


def study_of(spec: Spec) -> optuna.Study:
    assert spec.search is not None
    study = open_study(spec.search, spec.name)
    assert study is not None
    return study


def variants(found: Sequence[Sequence[Trial]]) -> list[str]:
    return [trials[0].variant for trials in found]


def test_search_goes_on_where_it_stopped_and_draws_nothing_twice(tmp_path: Path) -> None:
    first = tell_all(suggestions(spec_of(tmp_path, trials=4, sampler="random"), tmp_path))
    assert len(first) == 4
    longer = spec_of(tmp_path, trials=7, sampler="random")
    again = suggestions(longer, tmp_path)
    assert variants([[trial] for trial in again.known()]) == variants(first)
    assert again.left == 3
    second = tell_all(again)
    assert len(set(variants(first) + variants(second))) == 7
    assert [trials[0].order for trials in second] == [5, 6, 7], (
        "positions go on behind the baseline and the first four"
    )
    assert len(study_of(longer).get_trials(states=[optuna.trial.TrialState.COMPLETE])) == 7


def test_search_tries_what_a_killed_driver_left_open_under_its_own_number(
    tmp_path: Path,
) -> None:
    spec = spec_of(tmp_path)
    (open_one,) = suggestions(spec, tmp_path).ask()
    study_of(spec).ask()  # killed before it had all its values
    again = suggestions(spec, tmp_path)
    (known,) = again.known()
    assert known.identity == open_one.identity
    again.end(known.variant, [known], stopped=False)
    first = study_of(spec).get_trials()[0]
    assert first.state == optuna.trial.TrialState.COMPLETE
    assert first.value == pytest.approx(again._value("pseudo/miou", known))


def test_search_by_tpe_finds_the_better_way_of_erasing(tmp_path: Path) -> None:
    found = tell_all(suggestions(spec_of(tmp_path, trials=60), tmp_path))
    late = [trials[0].pipeline.cgnet for trials in found[-20:]]
    assert sum(cgnet.erasing == "cse" for cgnet in late) >= 15
    early = [trials[0].pipeline.cgnet for trials in found[:10]]
    assert {cgnet.erasing for cgnet in early} == {"cse", "class_agnostic"}


def test_search_asks_for_no_axis_that_does_not_hold_and_joins_equal_suggestions(
    tmp_path: Path,
) -> None:
    space = {
        "cam.source": ["oc", "cgnet"],
        "cgnet.lambda_start": {"values": [1, 2], "when": "cam.source == 'cgnet'"},
        "crf_low.alpha, crf_high.alpha": [[4, 24], [6, 24]],
    }
    spec = spec_of(tmp_path, space=space, trials=20, sampler="random")
    found = variants(tell_all(suggestions(spec, tmp_path)))
    assert len(found) == len(set(found))
    assert "source=oc, crf_low.alpha=4, crf_high.alpha=24" in found
    assert set(found) <= {
        f"source={source}, crf_low.alpha={low}, crf_high.alpha=24"
        for source in ("oc", "cgnet, lambda_start=1", "cgnet, lambda_start=2")
        for low in (4, 6)
    }
    trials = study_of(spec).get_trials()
    assert len(trials) == 20
    assert {trial.state for trial in trials} == {optuna.trial.TrialState.COMPLETE}
    by_params: dict[str, set[float]] = {}
    for trial in trials:
        by_params.setdefault(json.dumps(trial.params), set()).add(trial.value)
    assert all(len(values) == 1 for values in by_params.values()), (
        "a variant that is suggested again is told its known outcome"
    )


def test_search_does_not_count_suggestions_that_break_a_constraint(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, trials=5, constraints=["cgnet.lambda_start > 5"], sampler="random")
    found = tell_all(suggestions(spec, tmp_path))
    assert len(found) == 5
    assert all(trials[0].pipeline.cgnet.lambda_start > 5 for trials in found)
    impossible = spec_of(tmp_path, trials=9, constraints=["cgnet.lambda_start > 50"])
    made = suggestions(impossible, tmp_path)
    assert not made.ask()
    assert made.left == 0


def test_search_tells_the_mean_over_all_seeds_for_each_objective(
    tmp_path: Path,
) -> None:
    spec = spec_of(tmp_path, trials=1, objectives={"pseudo/miou": "max", "hours": "min"}, seeds=3)
    (trials,) = tell_all(suggestions(spec, tmp_path))
    assert [trial.seed for trial in trials] == [0, 1, 2]
    study = study_of(spec)
    (told,) = study.get_trials()
    assert told.values[1] - told.values[0] == pytest.approx(1)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]


def test_search_tells_no_value_of_stopped_and_failed_variants(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    made = suggestions(spec, tmp_path)
    for stopped in (True, False):
        (trial,) = made.ask()
        made.end(trial.variant, [], stopped=stopped)
    assert [trial.state.name for trial in study_of(spec).get_trials()] == ["PRUNED", "FAIL"]


def test_search_learns_from_a_failed_variant_that_comes_to_its_end_later(
    tmp_path: Path,
) -> None:
    spec = spec_of(tmp_path, trials=2)
    first = suggestions(spec, tmp_path)
    (trial,) = first.ask()
    first.end(trial.variant, [], stopped=False)
    for _ in range(2):
        again = suggestions(spec, tmp_path)
        (known,) = again.known()
        again.end(known.variant, [known], stopped=False)
        assert again.left == 1
    failed, copy = study_of(spec).get_trials()
    assert (failed.state.name, copy.state.name) == ("FAIL", "COMPLETE")
    assert copy.params == failed.params
    assert study_of(spec).best_value == copy.value


def test_search_tells_no_value_where_a_trial_lacks_a_metric(tmp_path: Path) -> None:
    class Lacking(Outcomes):
        def _value(self, objective: str, trial: Trial) -> float:
            # as of a manifest, where no image has several classes
            return {"pseudo/miou": 0.5}[objective]

    spec = spec_of(
        tmp_path, trials=1, objectives={"pseudo/miou": "max", "pseudo/miou_multi": "max"}
    )
    tell_all(Lacking(spec, store=Store(tmp_path / "store"), first=1))
    assert [trial.state.name for trial in study_of(spec).get_trials()] == ["FAIL"]


def test_search_of_another_space_or_other_objectives_needs_another_study(tmp_path: Path) -> None:
    tell_all(suggestions(spec_of(tmp_path, trials=2), tmp_path))
    other = spec_of(tmp_path, space=SPACE | {"cgnet.erasing": ["cse"]})
    with pytest.raises(
        ValueError, match=r"was made with another search.space .*give `search.study` another name"
    ):
        suggestions(other, tmp_path).ask()
    with pytest.raises(
        ValueError, match=r"search.objectives: the study 's' .* was made for pseudo/miou"
    ):
        suggestions(spec_of(tmp_path, objectives={"cam/miou": "max"}), tmp_path)
    with pytest.raises(ValueError, match=r"search.objectives: the study 's'"):
        suggestions(spec_of(tmp_path, objectives={"pseudo/miou": "min"}), tmp_path)
    assert (
        len(
            tell_all(
                suggestions(spec_of(tmp_path, study="t", objectives={"cam/miou": "max"}), tmp_path)
            )
        )
        == 6
    )


def test_search_of_a_plan_reads_the_study_and_makes_none(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    assert not suggestions(spec, tmp_path, create=False).known()
    assert not (tmp_path / "optuna.db").exists()
    tell_all(suggestions(spec_of(tmp_path, trials=2), tmp_path))
    reader = suggestions(spec, tmp_path, create=False)
    assert (len(reader.known()), reader.left) == (2, 4)


def test_search_names_a_database_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "optuna.db").write_text("no database")
    with pytest.raises(
        ValueError, match=r"search.storage: sqlite:///.*optuna.db: .*not a database"
    ):
        suggestions(spec_of(tmp_path), tmp_path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_search_is_shown_by_the_dashboard(tmp_path: Path) -> None:
    import threading
    from wsgiref.simple_server import make_server

    from optuna_dashboard import wsgi

    spec = spec_of(tmp_path, trials=3)
    tell_all(suggestions(spec, tmp_path))
    assert spec.search is not None
    with make_server("127.0.0.1", 0, wsgi(spec.search.storage)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/api/studies") as answer:
            (study,) = json.load(answer)["study_summaries"]
        server.shutdown()
    assert (study["study_name"], study["directions"]) == ("s", ["maximize"])
