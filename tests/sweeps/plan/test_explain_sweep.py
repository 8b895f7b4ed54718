"""Output of `explain` about artifacts that differ in known ways."""

import platform

import pytest
from measured import measured

from occse.artifacts.source import source_of
from occse.pipeline import STAGES
from sweeps.plan.explain import (
    Difference,
    Explainer,
    choose_trial,
    explain_stage,
    explain_sweep,
    explain_trial,
)
from sweeps.spec.model import Spec
from sweeps.spec.trials import Trial, trials

SHAPES = {"data.kind": "shapes", "*.init": "random"}


def trials_of(**keys: object) -> list[Trial]:
    base = SHAPES | keys.pop("base", {})  # type: ignore[operator]
    values = {"name": "s", "question": "why?", "baseline": {}, "base": base}
    return trials(Spec.model_validate(values | keys))


def stored(*found: Trial, without: tuple[str, ...] = ()) -> list:
    """Manifests of all artifacts of these trials, but not of some fields."""
    nodes = {
        node.fingerprint: node
        for trial in found
        for node in trial.nodes.values()
        if node.field not in without
    }
    return [measured(node, seconds=90.0) for node in nodes.values()]


def differences(field: str, here: list[Trial], store: list) -> list[str]:
    near = Explainer(here, store).nearest(here[0].nodes[field])
    assert near is not None
    return [str(difference) for difference in near[1]]


def test_a_knob_far_upstream_is_named_once() -> None:
    here = trials_of(base={"cgnet.lambda_start": 2})
    assert differences("seg", here, stored(*trials_of())) == [
        "cgnet.lambda_start: 2 here, 0.3 there"
    ]


def test_what_is_equal_differs_in_nothing() -> None:
    assert differences("seg", trials_of(), stored(*trials_of())) == []


def test_the_nearest_of_several_is_compared_with() -> None:
    far = trials_of(base={"cgnet.lambda_start": 2, "cgnet.epochs": 3, "oc.epochs": 4})
    near = trials_of(base={"cgnet.epochs": 3})
    found = differences("cam", trials_of(base={"cgnet.epochs": 5}), stored(*far, *near))
    assert found == ["cgnet.epochs: 5 here, 3 there"]


def test_another_source_is_told_by_its_knob_alone() -> None:
    here = trials_of(base={"cam.source": "oc"})
    assert differences("cam", here, stored(*trials_of())) == ["cam.source: oc here, cgnet there"]


def test_a_knob_without_effect_is_absent() -> None:
    here = trials_of(base={"pseudo.source": "crf"})
    assert "pseudo.beta: absent here, 8 there" in differences("pseudo", here, stored(*trials_of()))


def test_newer_code_and_inputs_that_are_gone_are_told() -> None:
    here, there = trials_of(), trials_of(base={"oc.epochs": 4})
    node = there[0].nodes["cgnet"]
    old = measured(node, seconds=1.0).model_copy(update={"version": 0})
    gone = there[0].nodes["oc"].fingerprint[:8]
    store = [old, *stored(*here, without=("cgnet", "oc"))]
    assert differences("cgnet", here, store) == [
        f"oc: {here[0].nodes['oc'].fingerprint[:8]} here, {gone} (not in the store any more) there",
        f"version of cgnet's code: {node.stage.version} here, 0 there",
    ]


def test_a_difference_reads_well() -> None:
    assert str(Difference("a", "1", "2")) == "a: 1 here, 2 there"


@pytest.fixture
def sweep() -> tuple[list[Trial], Explainer]:
    """Three lambdas, of which the first is in the store."""
    found = trials_of(baseline=None, grid={"cgnet.lambda_start": [1, 2, 3]})
    return found, Explainer(found, stored(found[0]))


def test_a_trial_is_chosen_by_number_or_name(sweep: tuple[list[Trial], Explainer]) -> None:
    found, _ = sweep
    assert choose_trial(found, "2") is found[2]
    assert choose_trial(found, "lambda_start=2") is found[1]
    assert choose_trial(found, found[0].name) is found[0]
    # The name of its run in MLflow, which tables show as well.
    short = {trial.order: f"λ={trial.order + 1} · s0" for trial in found}
    for wanted in ("λ=3 · s0", "λ=3"):
        assert choose_trial(found, wanted, short_name=lambda each: short[each.order]) is found[2]
    with pytest.raises(
        ValueError,
        match=r"'lambda' is 3 trials of this sweep; give a number up to 2 or a name, as 0 \(",
    ):
        choose_trial(found, "lambda")
    with pytest.raises(ValueError, match="'7' is not a trial of this sweep"):
        choose_trial(found, "7")


def test_the_sweep_the_trial_and_the_stage_are_told_in_plain_words(
    sweep: tuple[list[Trial], Explainer],
) -> None:
    found, explainer = sweep
    lines = [" ".join(line.split()) for line in explain_sweep(found, explainer).splitlines()]
    assert lines[1] == "0 lambda_start=1 · seed 0 0 of 11 all in the store"
    made = found[0].nodes["cgnet"].fingerprint
    assert lines[2].endswith(
        f"9 of 11 cgnet: nearest {made[:8]}: cgnet.lambda_start: 2 here, 1 there"
    )

    lines = [" ".join(line.split()) for line in explain_trial(found[1], explainer).splitlines()]
    assert lines[0] == "Trial 1: lambda_start=2 · seed 0"
    assert f"oc hit {found[1].nodes['oc'].fingerprint[:8]} made on in 90 s" in lines
    assert (
        sum(
            " miss " in line and line.endswith("cgnet.lambda_start: 2 here, 1 there")
            for line in lines
        )
        == 9
    )

    text = explain_stage(found[1], "cam", explainer)
    assert f"The nearest is MakeCam/{found[0].nodes['cam'].fingerprint}" in text
    assert text.endswith("  cgnet.lambda_start: 2 here, 1 there\nBefore it, cgnet must run.")
    assert "Hit" in explain_stage(found[1], "oc", explainer)
    assert "No Segment was ever made" in explain_stage(found[1], "seg", Explainer(found, []))
    with pytest.raises(ValueError, match="trial 1 has no stage 'caam'; it has data, oc"):
        explain_stage(found[1], "caam", explainer)


def test_a_hit_that_other_code_made_says_which_file_changed() -> None:
    (trial,) = trials_of(baseline={}, grid={})
    manifests = []
    for manifest in stored(trial):
        source = source_of(STAGES[manifest.stage])
        if manifest.stage == "MakeCam":
            source["occse.method.cam"] = "00000000"
        packages = {"python": platform.python_version()}
        manifests.append(manifest.model_copy(update={"source": source, "packages": packages}))
    text = explain_trial(trial, Explainer([trial], manifests))
    (cam,) = [line for line in text.splitlines() if line.split()[0] == "cam"]
    assert cam.endswith("; made by other code: cam.py changed")
    (crf,) = [line for line in text.splitlines() if line.split()[0] == "crf"]
    assert crf.endswith("; made from cam of other code")
    assert "other code" in explain_stage(trial, "cam", Explainer([trial], manifests))
    (oc,) = [line for line in text.splitlines() if line.split()[0] == "oc"]
    assert "code" not in oc
