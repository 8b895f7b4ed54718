"""Gates, searches and limits in whole sweeps on a real cluster."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hook_server import HookServer
from mlflow.entities import Run
from probe_stages import Probe, Scored, executions, make_trial
from sweeping import sweep_probes, trial_runs

from sweeps.driver.recorder import Summary
from sweeps.spec.gates import Gate
from sweeps.spec.limits import Limits
from sweeps.spec.model import Spec
from sweeps.spec.trials import Trial
from sweeps.store.store import Store

pytestmark = [
    pytest.mark.usefixtures("cluster"),
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
]
CAM = (0.3, 0.5, 0.4, 0.2)  # by variant, the baseline first
NO_LIMITS = Limits()
PSEUDO = (0.3, 0.3, 0.6, 0.9)


@pytest.fixture(autouse=True)
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[HookServer]:
    """The server that each sweep tells of its course."""
    with HookServer() as server:
        monkeypatch.setenv("HOOK", server.url)
        yield server


def trial_of(order: int, *, fails: bool = False) -> Trial:
    return make_trial(
        order,
        data=Probe(label="data"),
        cam=Scored(label=f"cam {order}", upstream=("data",), score=CAM[order], fails=fails),
        crf=Probe(label=f"crf {order}", upstream=("cam",)),
        pseudo=Scored(label=f"pseudo {order}", upstream=("cam",), score=PSEUDO[order]),
        seg=Scored(label=f"seg {order}", upstream=("pseudo",)),
    )


def sweep(root: Path, trials: Sequence[Trial], *gates: Gate, limits: Limits = NO_LIMITS) -> Summary:
    spec = Spec(
        name="gated",
        question="Who goes on?",
        baseline={},
        gates=list(gates),
        limits=limits,
        notify="$HOOK",
    )
    return sweep_probes(spec, trials, root)


def runs_of(root: Path) -> dict[str, Run]:
    runs = trial_runs(root, "gated")
    return {run.data.tags["occse.variant"].removeprefix("variant "): run for run in runs}


def test_only_the_best_go_on_what_is_stopped_says_why_and_a_wider_gate_lets_more_go_on(
    tmp_path: Path, hook: HookServer
) -> None:
    trials = [trial_of(order) for order in range(4)]
    gates = Gate(after="cam", margin=0.05), Gate(after="pseudo", top_k=1)
    summary = sweep(tmp_path, trials, *gates)
    assert summary.well
    assert (summary.stopped, summary.run) == (2, 1 + 4 + 3 + 3 + 2)
    assert hook.events() == ["gate", "gate", "end"]
    assert "variant 3 · seed 0 stopped after cam: 0.2000 is more than" in hook.messages[0]["text"]
    assert "2 trials stopped by a gate" in summary.describe()
    done = sorted(executions(tmp_path / "store"))
    assert [line for line in done if line.startswith("seg")] == ["seg 0 0", "seg 2 0"]
    assert [line for line in done if line.startswith("pseudo")] == [
        "pseudo 0 0",
        "pseudo 1 0",
        "pseudo 2 0",
    ]
    runs = runs_of(tmp_path)
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    stops = {name: run.data.tags.get("occse.stopped", "") for name, run in runs.items()}
    assert stops == {"0": "", "1": "pseudo", "2": "", "3": "cam"}
    assert (
        runs["3"].data.tags["occse.stopped.why"]
        == "0.2000 is more than 0.05 below the baseline's 0.3000"
    )
    assert runs["1"].data.metrics["pseudo/miou"] == 0.3
    assert "gate after pseudo on train" in runs["2"].data.tags["occse.pixel_truth"]
    assert {name for name, run in runs.items() if "occse.fingerprint.seg" in run.data.tags} == set(
        "0123"
    )

    again = sweep(tmp_path, trials, *gates)
    assert (again.stopped, again.run, again.well) == (2, 0, True)
    assert hook.events()[3:] == ["end"], "what was told before is not told again"
    assert sorted(executions(tmp_path / "store")) == done

    wider = sweep(tmp_path, trials, gates[0], Gate(after="pseudo", top_k=2))
    assert (wider.stopped, wider.run) == (1, 1)
    assert runs_of(tmp_path)["1"].data.tags.get("occse.stopped", "") == ""
    assert runs_of(tmp_path)["1"].data.metrics["seg/miou"] == 0.5

    sweep(tmp_path, trials, Gate(after="cam", top_k=1))
    assert runs_of(tmp_path)["2"].data.tags.get("occse.stopped", "") == "", (
        "what came to its end stays"
    )


def test_what_another_sweep_made_behind_the_gate_is_not_in_the_record(tmp_path: Path) -> None:
    trials = [trial_of(order) for order in range(2)]
    store = Store(tmp_path / "store")
    for node in trials[1].nodes.values():
        store.execute(node)
    summary = sweep(tmp_path, trials, Gate(after="cam", margin=-0.3))
    assert (summary.stopped, summary.run) == (1, 4)
    stopped = runs_of(tmp_path)["1"].data
    assert stopped.tags["occse.stopped"] == "cam"
    assert "pseudo/miou" not in stopped.metrics


def test_a_variant_that_fails_before_the_gate_takes_no_place(
    tmp_path: Path, hook: HookServer
) -> None:
    trials = [trial_of(0), trial_of(1, fails=True), trial_of(2), trial_of(3)]
    summary = sweep(tmp_path, trials, Gate(after="cam", top_k=1))
    assert list(summary.failed) == ["variant 1 · seed 0"]
    assert sorted(hook.events()) == ["end", "failure", "gate"]
    stops = {
        name: run.data.tags.get("occse.stopped", "") for name, run in runs_of(tmp_path).items()
    }
    assert stops == {"0": "", "1": "", "2": "", "3": "cam"}


def test_a_limit_stops_launching_and_the_same_command_goes_on(
    tmp_path: Path, hook: HookServer
) -> None:
    trials = [trial_of(order) for order in range(3)]
    first = sweep(tmp_path, trials, limits=Limits(trials=2))
    assert (first.left, first.limit, first.well) == (1, "limits.trials (2 trials)", True)
    assert "nothing more was launched at limits.trials (2 trials), 1 trial left" in first.describe()
    assert hook.events() == ["budget", "end"]
    assert "cam 2 0" not in executions(tmp_path / "store")
    second = sweep(tmp_path, trials, limits=Limits(trials=2))
    assert (second.left, second.limit, second.run) == (0, "", 4)
    assert {run.info.status for run in runs_of(tmp_path).values()} == {"FINISHED"}
    third = sweep(tmp_path, trials, limits=Limits(wall_hours=1e-9))
    assert (third.left, third.limit) == (0, ""), "where nothing is left no limit is in the way"
    never = sweep(tmp_path / "other", trials, limits=Limits(wall_hours=1e-9))
    assert (never.left, never.run) == (3, 0)


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
