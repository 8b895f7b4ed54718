import random
from collections.abc import Sequence

import pytest

from sweeps.selection.gatekeeper import Gatekeeper, Verdict
from sweeps.spec.gates import Gate


def keeper_of(
    gate: Gate, *variants: str, baseline: str = "", groups: dict[str, str] | None = None
) -> Gatekeeper:
    keeper = Gatekeeper(gate)
    for variant in variants:
        keeper.expect(
            variant,
            knobs={"oc": {"lr": (groups or {}).get(variant, 0)}},
            baseline=variant == baseline,
        )
    return keeper


def pass_all(
    keeper: Gatekeeper, scores: dict[str, float], order: Sequence[str], *, more: int = 0
) -> list[Verdict]:
    """The verdicts of a gate to which variants come in that order."""
    found: list[Verdict] = []
    for variant in order:
        keeper.arrive(variant, scores[variant])
        found += keeper.verdicts(more=more)
    return found


def through(verdicts: Sequence[Verdict]) -> list[str]:
    return [verdict.variant for verdict in verdicts if verdict.goes_on]


SCORES = {"a": 0.5, "b": 0.4, "c": 0.3, "d": 0.2, "base": 0.1}


def test_gate_top_k_decides_as_soon_as_it_is_certain_and_the_baseline_takes_no_place() -> None:
    keeper = keeper_of(Gate(after="cam", top_k=2), *SCORES, baseline="base")
    keeper.arrive("base", SCORES["base"])
    assert through(list(keeper.verdicts(more=0))) == ["base"]
    keeper.arrive("b", SCORES["b"])
    assert not list(keeper.verdicts(more=0)), "two better ones may come"
    keeper.arrive("c", SCORES["c"])
    assert not list(keeper.verdicts(more=0))
    keeper.arrive("a", SCORES["a"])
    assert [verdict.variant for verdict in keeper.verdicts(more=0)] == ["a"]
    keeper.lose("d")
    last = {verdict.variant: verdict for verdict in keeper.verdicts(more=0)}
    assert {name: verdict.goes_on for name, verdict in last.items()} == {"b": True, "c": False}
    assert last["c"].why == "0.3000 is not among the best 2 of 3, which end at 0.4000"


@pytest.mark.parametrize("gate", [Gate(after="cam", top_k=2), Gate(after="cam", margin=0.15)])
def test_gate_verdicts_do_not_depend_on_the_order_of_arrival(gate: Gate) -> None:
    scores = {"a": 0.5, "b": 0.4, "c": 0.4, "d": 0.2, "base": 0.5}
    shuffled, found = random.Random(0), set()
    for _ in range(20):
        order = shuffled.sample(list(scores), len(scores))
        verdicts = pass_all(keeper_of(gate, *scores, baseline="base"), scores, order)
        assert sorted(verdict.variant for verdict in verdicts) == sorted(scores), (
            "each has one verdict"
        )
        found.add(frozenset(through(verdicts)))
    assert found == {frozenset({"a", "b", "base"} | ({"c"} if gate.margin else set()))}


def test_gate_by_ranks_variants_among_those_with_the_same_value() -> None:
    gate = Gate(after="cam", top_k=1, by="oc.lr")
    keeper = keeper_of(gate, *"abcd", groups={"a": "fast", "b": "fast", "c": "slow", "d": "slow"})
    verdicts = pass_all(keeper, SCORES, "dcba")
    assert sorted(through(verdicts)) == ["a", "c"]
    (why,) = [verdict.why for verdict in verdicts if verdict.variant == "d"]
    assert why == "0.2000 is not among the best 1 of 2 where oc.lr is slow, which end at 0.3000"


def test_gate_asha_lets_the_best_share_so_far_go_on_and_stops_none_before_the_end() -> None:
    keeper = keeper_of(Gate(after="cam", asha=2), *"abcd")
    keeper.arrive("d", SCORES["d"])
    assert not list(keeper.verdicts(more=0)), "one alone is not a half"
    keeper.arrive("c", SCORES["c"])
    assert through(list(keeper.verdicts(more=0))) == ["c"], "the better half of two"
    keeper.arrive("b", SCORES["b"])
    assert through(list(keeper.verdicts(more=0))) == ["b"], (
        "the best of three; a variant that went on does not come back"
    )
    keeper.arrive("a", SCORES["a"])
    last = list(keeper.verdicts(more=0))
    assert through(last) == ["a"]
    assert [verdict.variant for verdict in last if not verdict.goes_on] == ["d"]


def test_gate_stops_no_variant_while_suggestions_are_to_come() -> None:
    for gate in (Gate(after="cam", asha=2), Gate(after="cam", top_k=1)):
        keeper = keeper_of(gate, "a")
        assert not pass_all(keeper, SCORES, "a", more=1)
        assert through(list(keeper.verdicts(more=0))) == ["a"]


def test_gate_margin_waits_for_the_baseline_and_lets_all_go_on_where_that_failed() -> None:
    keeper = keeper_of(Gate(after="cam", margin=0.02), "a", "d", "base", baseline="base")
    keeper.arrive("a", 0.29)
    keeper.arrive("d", 0.27)
    assert not list(keeper.verdicts(more=0))
    keeper.arrive("base", 0.3)
    verdicts = list(keeper.verdicts(more=0))
    assert sorted(through(verdicts)) == ["a", "base"]
    assert [verdict.why for verdict in verdicts if verdict.variant == "d"] == [
        "0.2700 is more than 0.02 below the baseline's 0.3000"
    ]
    lost = keeper_of(Gate(after="cam", margin=0.02), "d", "base", baseline="base")
    lost.arrive("d", 0.0)
    lost.lose("base")
    assert through(list(lost.verdicts(more=0))) == ["d"]


def test_gate_margin_lets_a_variant_at_the_margin_go_on() -> None:
    keeper = keeper_of(Gate(after="cam", margin=0.25), "a", "base", baseline="base")
    keeper.arrive("base", 0.75)
    keeper.arrive("a", 0.5)
    assert sorted(through(list(keeper.verdicts(more=0)))) == ["a", "base"]


def test_gate_still_judges_a_variant_that_ended_after_it_had_come() -> None:
    keeper = keeper_of(Gate(after="cam", top_k=2), "a", "b", "c")
    keeper.arrive("a", 0.5)
    keeper.lose("a")
    # Both others may still be better.
    assert not list(keeper.verdicts(more=0))
    keeper.lose("b")
    assert through(list(keeper.verdicts(more=0))) == ["a"]


def test_gate_has_one_rule() -> None:
    for rules in ({}, {"top_k": 2, "asha": 2}):
        with pytest.raises(ValueError, match="give one of `top_k`, `asha` and `margin`"):
            Gate(after="cam", **rules)
