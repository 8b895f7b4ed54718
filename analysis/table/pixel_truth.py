"""The supervision ledger: which numbers of a table the pixel ground truth had a hand in, beside
scoring them.

Image labels are all that the method may see. The truth of the pixels comes in where it chooses
something: a threshold, an epoch (runs say so themselves), the variants that a search tried, those
that a gate let go on, and the values that the table itself picks as the best."""

import pandas as pd

from analysis.read.labels import Naming
from analysis.read.pipeline import Pipeline, pipeline_of
from analysis.read.tidy import UNKNOWN
from analysis.table.spec import Best
from occse.naming.labels import Labels

NOT_KNOWN = "What pixel ground truth chose for imported runs is not known"
HELD_OUT = "@held-out-"
WITHOUT = "@best-without-"
GATE, SEARCH = "gate after ", "search for "


def pixel_truth(
    metric: str, trials: pd.DataFrame, *, best: Best | None, naming: Naming
) -> tuple[str, ...]:
    """Return a sentence for each choice by pixel ground truth behind the numbers of `metric`."""
    labels = naming.labels
    # The tag of a trial is a list with commas, so all of them joined are one.
    uses = {use.strip() for use in ",".join(trials["pixel_truth"]).split(",")} - {""}
    pipeline = pipeline_of(trials)
    # A gate that stopped no trial has chosen nothing.
    gates = set(trials["stopped"]) - {""}
    uses |= {f"{GATE}{gate} on {pipeline.split_of(gate) or UNKNOWN}" for gate in gates}
    field = metric.partition("/")[0]
    # behind the @ stands a threshold that these images did not choose
    if "@" in metric:
        uses = {use for use in uses if not use.startswith(f"{field}.threshold")}
    chosen = [use for use in sorted(uses) if _concerns(use, field, pipeline)]
    sentences = [_sentence(use, labels) for use in chosen]
    threshold = use_name(f"{field}.threshold", labels)
    if HELD_OUT in metric:
        images = metric.partition(HELD_OUT)[2]
        sentences.append(
            f"{threshold} was chosen with the pixel ground truth of {images} images "
            "that are not scored; @best-without-"
            f"{images} has the best threshold of the same scored images"
        )
    if WITHOUT in metric:
        images = metric.partition(WITHOUT)[2]
        sentences.append(
            f"{threshold} was chosen with the pixel ground truth that scores it, "
            f"on all but {images} images"
        )
    if any(
        protocol.get(field, {}).get("pixel_truth") == UNKNOWN for protocol in trials["protocol"]
    ):
        sentences.append(NOT_KNOWN)
    if best is not None:
        split = pipeline.split_of(best.by.partition("/")[0]) or UNKNOWN
        same = ", the very numbers that are shown" if best.by == metric else ""
        verb = "was" if len(best.of) == 1 else "were"
        knobs = f"{' and '.join(map(naming.knob, best.of))} {verb}"
        score = labels.metric(best.by)
        sentences.append(
            f"{knobs} chosen by {score}, so with the pixel ground truth of {split}{same}"
        )
    return tuple(sentences)


def _concerns(use: str, field: str, pipeline: Pipeline) -> bool:
    """Tell whether a choice concerns the numbers of a stage.

    A search chose all variants; a gate chose those whose later stages were made; anything else
    concerns its own stage alone.
    """
    if use.startswith(SEARCH):
        return True
    if use.startswith(GATE):
        gate = use.removeprefix(GATE).partition(" on ")[0]
        order = pipeline.fields
        return gate in order and field in order and order.index(field) > order.index(gate)
    return use.startswith(f"{field}.")


def use_name(use: str, labels: Labels) -> str:
    """Return the name of a choice of a stage, such as `CAM threshold on train`.

    A stage without a name stays as it is written.
    """
    chosen, on, split = use.partition(" on ")
    metric = chosen.replace(".", "/", 1)
    name = labels.metric(metric)
    return f"{chosen if name == metric else name}{on}{split}"


def _sentence(use: str, labels: Labels) -> str:
    chosen, _, split = use.partition(" on ")
    truth = f"with the pixel ground truth{f' of {split}' if split else ''}"
    if use.startswith(GATE):
        stage = labels.stage(chosen.removeprefix(GATE))
        return f"A gate after {stage} chose {truth} which variants went on"
    if use.startswith(SEARCH):
        objective = labels.metric(chosen.removeprefix(SEARCH))
        return f"A search for the best {objective} chose {truth} which variants there are"
    return f"{use_name(chosen, labels)} was chosen {truth}"
