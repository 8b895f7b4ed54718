"""Ranges, knobs that move together, conditions, constraints, derived values, designs and seeds by
stage.
"""

from typing import Any

import pytest

from sweeps.spec.axes import Axis
from sweeps.spec.model import Spec
from sweeps.spec.trials import Trial, trials

SHAPES = {"data.kind": "shapes", "*.init": "random"}


def expand(**keys: object) -> list[Trial]:
    return trials(Spec.model_validate({"name": "s", "question": "why?", "base": SHAPES} | keys))


def variants(**keys: object) -> list[str]:
    return list(dict.fromkeys(trial.variant for trial in expand(**keys)))


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ({"from": 0.1, "to": 0.5, "step": 0.1}, [0.1, 0.2, 0.3, 0.4, 0.5]),
        ({"from": 1, "to": 8, "step": 3}, [1, 4, 7]),
        ({"from": 1, "to": 2, "num": 5}, [1, 1.25, 1.5, 1.75, 2]),
        ({"from": 0.01, "to": 10, "num": 4, "log": True}, [0.01, 0.1, 1, 10]),
        ({"from": 1, "to": 10, "num": 3, "log": True}, [1, 3.162, 10]),
        ({"from": 1, "to": 10}, None),
    ],
)
def test_a_range_has_both_its_ends_and_reads_as_written(
    written: dict[str, Any], values: list[float] | None
) -> None:
    assert Axis.model_validate(written).listed() == values


def test_a_range_of_integers_stays_one_and_is_an_axis_like_any_other() -> None:
    assert [
        type(value) for value in Axis.model_validate({"from": 1, "to": 3, "step": 1}).listed() or ()
    ] == [int] * 3
    grid = {"pseudo.log_steps": {"from": 2, "to": 4, "step": 1}, "crf.alpha": [6]}
    assert variants(grid=grid) == [f"log_steps={steps}, alpha=6" for steps in (2, 3, 4)]


def test_knobs_joined_by_a_comma_move_together() -> None:
    grid = {"crf_low.alpha, crf_high.alpha": [[4, 24], [4, 32]], "pseudo.beta": [4, 8]}
    assert variants(grid=grid) == [
        f"crf_low.alpha=4, crf_high.alpha={high}, beta={beta}"
        for high in (24, 32)
        for beta in (4, 8)
    ]


def test_an_axis_with_a_condition_holds_only_where_it_is_true() -> None:
    walk = {"values": [8, 24], "when": "cam.source == 'cgnet'"}
    found = expand(grid={"cam.source": ["oc", "cgnet"], "pseudo.alpha_walk": walk})
    assert [trial.variant for trial in found] == [
        "source=oc",
        "source=cgnet, alpha_walk=8",
        "source=cgnet, alpha_walk=24",
    ]
    assert [trial.pipeline.pseudo.alpha_walk for trial in found] == [16, 8, 24]


def test_a_condition_sees_the_variant_and_the_axes_that_hold() -> None:
    walk = {"values": [8, 24], "when": "cam.source == 'cgnet'"}
    beta = {"values": [1, 2], "when": "pseudo.alpha_walk > 16"}
    sources = {"own": {"cam.source": "oc"}, "erased": {}}
    assert variants(variants=sources, grid={"pseudo.alpha_walk": walk, "pseudo.beta": beta}) == [
        "own",
        "erased, alpha_walk=8",
        "erased, alpha_walk=24, beta=1",
        "erased, alpha_walk=24, beta=2",
    ]


def test_points_that_break_a_constraint_are_left_out() -> None:
    grid = {"crf_low.alpha": [4, 8, 30], "crf_high.alpha": [24, 32]}
    found = expand(
        grid=grid,
        constraints=["crf_low.alpha < crf_high.alpha", "crf_high.alpha > pseudo.alpha_walk + 10"],
    )
    assert [(trial.pipeline.crf_low.alpha, trial.pipeline.crf_high.alpha) for trial in found] == [
        (4, 32),
        (8, 32),
        (30, 32),
    ]


def test_a_derived_value_follows_its_knobs_through_other_derived_values() -> None:
    base = SHAPES | {
        "crf_high.alpha": "=crf_low.alpha * 6",
        "pseudo.alpha_walk": "=crf_high.alpha / 2",
    }
    found = expand(
        base=base, grid={"crf_low.alpha": [3, 4]}, variants={"a": {}, "b": {"crf_high.alpha": 30}}
    )
    assert [
        (trial.variant, trial.pipeline.crf_high.alpha, trial.pipeline.pseudo.alpha_walk)
        for trial in found
    ] == [
        ("a, alpha=3", 18, 9),
        ("a, alpha=4", 24, 12),
        ("b, alpha=3", 30, 15),
        ("b, alpha=4", 30, 15),
    ]


def test_values_of_an_axis_can_be_derived() -> None:
    grid = {"crf_low.alpha": [4], "crf_high.alpha": ["=crf_low.alpha * 4", "=crf_low.alpha * 6"]}
    assert variants(grid=grid) == [
        "crf_low.alpha=4, crf_high.alpha=16",
        "crf_low.alpha=4, crf_high.alpha=24",
    ]


def test_one_at_a_time_changes_one_axis_from_the_base_which_is_the_baseline() -> None:
    grid = {"cgnet.erasing": ["cse", "class_agnostic"], "crf.alpha": [4, 6], "pseudo.beta": [8, 4]}
    found = expand(grid=grid, design="one_at_a_time")
    assert [(trial.variant, trial.baseline) for trial in found] == [
        ("base", True),
        ("erasing=class_agnostic", False),
        ("alpha=4", False),
        ("alpha=6", False),
        ("beta=4", False),
    ]


def test_leave_one_out_takes_each_axis_back_from_all_together() -> None:
    grid = {
        "cgnet.mask_max": ["batch", "image"],
        "cam.flip": [False, True],
        "pseudo.source": ["crf", "walk"],
    }
    found = expand(grid=grid, design="leave_one_out")
    assert [(trial.variant, trial.baseline) for trial in found] == [
        ("full", True),
        ("mask_max=batch", False),
        ("flip=False", False),
        ("source=crf", False),
    ]
    left_out = found[2].pipeline
    assert (left_out.cgnet.mask_max, left_out.cam.flip, left_out.pseudo.source) == (
        "image",
        False,
        "walk",
    )


def test_a_design_keeps_the_baseline_that_the_file_names() -> None:
    grid = {"cgnet.erasing": ["class_agnostic"]}
    found = expand(grid=grid, design="one_at_a_time", baseline={"cam.source": "oc"})
    assert [(trial.variant, trial.baseline) for trial in found] == [
        ("baseline", True),
        ("base", False),
        ("erasing=class_agnostic", False),
    ]


def test_seeds_by_stage_are_nested_and_number_the_replicates() -> None:
    spec = Spec.model_validate(
        {
            "name": "s",
            "question": "?",
            "base": SHAPES,
            "baseline": {},
            "seeds": {"oc": [7], "cgnet": 3, "deeplab": 2},
        }
    )
    found = trials(spec)
    assert spec.combinations() == len(found) == 6
    assert [
        (trial.seed, trial.pipeline.cgnet.seed, trial.pipeline.deeplab.seed) for trial in found
    ] == [(2 * cgnet + deeplab, cgnet, deeplab) for cgnet in range(3) for deeplab in range(2)]
    assert {trial.pipeline.oc.seed for trial in found} == {7}
    assert {trial.pipeline.affinity.seed for trial in found} == {0}
    distinct = {
        field: len({trial.nodes[field].fingerprint for trial in found})
        for field in ("oc", "cgnet", "deeplab")
    }
    assert distinct == {"oc": 1, "cgnet": 3, "deeplab": 6}


def test_seeds_of_a_stage_that_is_not_planned_collapse() -> None:
    found = expand(baseline={"cam.source": "oc"}, seeds={"cgnet": 3, "deeplab": 2})
    assert [trial.seed for trial in found] == [0, 1]
