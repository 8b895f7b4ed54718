"""The tidy frame: one row per trial, scored stage and subset of the images, with what its numbers
rest on spelled out.

| column | content |
|---|---|
| `experiment` ... `data_id` | as in `analysis.read.mlflow`; the last is missing if unknown |
| `stage` | a scored stage that the trial has by plan, such as `cam` or `seg` |
| `subset` | `all` scored images, or `multi`: those with several classes |
| `data` | kind of the data set: `shapes` (the embedded one), `voc`, `coco`, `folder` |
| `split` | whose pixel ground truth the score is measured on: `train` or `val` |
| `threshold_rule` | what cuts objects from background, see below |
| `threshold` | CAM score from which on a class wins; missing where there is none |
| `crf` | preset of the last dense CRF on the scored maps, or `none` |
| `scales` | test scales behind the scored maps, and whether mirrored too |
| `init` | start of the network behind the maps: `imagenet`, `pretrain`, `random`, `file` ... |
| `pixel_truth` | choices of this stage by pixel ground truth; empty for none |
| `miou`, `precision`, `recall` | fractions; missing if not logged (`multi` has miou alone) |
| `param.<field>.<knob>` | knobs, as strings |

A threshold rule is `best on train` (the best of a range, picked on the ground truth that scores
it), `fixed 0.2`, `alpha 6` (against the background (1 - max CAM)^6) or `argmax` (the network has a
background class). What a run does not tell is `unknown`; an imported one tells in its own words.
Start and scales of CAMs that were read from files are `of another method`.
The network behind CRF and pseudo labels is the one that made the CAM.

In a notebook: `tidy(load("quickstart")).query("stage == 'seg' and subset ==
'all'").groupby("variant")["miou"].mean()`."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.read.json_text import parse_json
from analysis.read.pipeline import Pipeline, pipeline_of

SUBSETS = {"all": "miou", "multi": "miou_multi"}
OF_TRIAL = (
    "experiment", "run_id", "trial", "variant", "order", "baseline", "seed", "current", "status",
    "stopped", "data_id",
)  # fmt: skip
PROTOCOL = ("data", "split", "threshold_rule", "threshold", "crf", "scales", "init")
UNKNOWN = "unknown"
# Maps that were read from files: the network and the scales behind them are not of this sweep.
OUTSIDE = "of another method"
Trial = Mapping[Any, Any]


def tidy(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the tidy frame of `trials` (from `load`), in their order, stages in pipeline order."""
    knobs = [name for name in trials.columns if name.startswith("param.")]
    pipeline = pipeline_of(trials)
    rows: list[dict[str, Any]] = []
    for trial in trials.to_dict("records"):
        of_trial = {name: trial[name] for name in OF_TRIAL}
        for stage in pipeline.scored:
            if stage in trial["planned"]:
                about = of_trial | _about(trial, stage, pipeline)
                rows += [about | _scores(trial, stage, subset) for subset in SUBSETS]
    columns = [
        *OF_TRIAL,
        "stage",
        "subset",
        *PROTOCOL,
        "pixel_truth",
        "miou",
        "precision",
        "recall",
    ]
    frame = pd.DataFrame(rows, columns=columns)
    frame["data_id"] = frame["data_id"].mask(frame["data_id"] == "")
    # `validate`: a run that stood twice would multiply rows without any sign of it.
    return frame.merge(trials[["run_id", *knobs]], on="run_id", how="left", validate="many_to_one")


def pixel_truth(trial: Trial, stage: str) -> tuple[str, ...]:
    """Return the choices of `stage` by pixel ground truth, each as "cam.threshold on train"."""
    uses = {use.strip() for use in trial["pixel_truth"].split(",")}
    return tuple(sorted(use for use in uses if use.startswith(f"{stage}.")))


def _about(trial: Trial, stage: str, pipeline: Pipeline) -> dict[str, Any]:
    protocol = _protocol(trial, stage)
    fixed = {
        "stage": stage,
        "split": pipeline.split_of(stage) or UNKNOWN,
        "data": _knob(trial, "data.kind"),
        "pixel_truth": ", ".join(pixel_truth(trial, stage)),
    }
    own: dict[str, Any] = trial["protocol"].get(stage, {})
    # The later ones win: what an imported run says of itself is better known than what its stage
    # usually does.
    return protocol | fixed | _split(trial, stage) | own


def _split(trial: Trial, stage: str) -> dict[str, str]:
    """Return the split that the trial itself names for a stage, where it has such a knob."""
    split = trial.get(f"param.{stage}.split")
    return {"split": split} if isinstance(split, str) else {}


def _scores(trial: Trial, stage: str, subset: str) -> dict[str, Any]:
    names = {"miou": SUBSETS[subset]}
    if subset == "all":
        names |= {"precision": "precision", "recall": "recall"}
    return {"subset": subset} | {key: trial.get(f"{stage}/{name}") for key, name in names.items()}


def _protocol(trial: Trial, stage: str) -> dict[str, Any]:
    """Return what the numbers of a stage rest on; of a stage that is not known here, unknown."""
    match stage:
        case "cam":
            return _cam(trial)
        case "crf":
            return _crf(trial)
        case "pseudo":
            return _pseudo(trial)
        case "seg":
            return _seg(trial)
    return dict.fromkeys(PROTOCOL, UNKNOWN)


def _cam(trial: Trial) -> dict[str, Any]:
    source = _knob(trial, "cam.source")
    is_outside = source == "cams"
    return {
        "threshold_rule": _threshold_rule(trial),
        "threshold": trial.get("cam/threshold"),
        "crf": "none",
        "scales": OUTSIDE if is_outside else _scales(trial, "cam"),
        "init": OUTSIDE if is_outside else _init(trial, source),
    }


def _threshold_rule(trial: Trial) -> str:
    low = _knob(trial, "cam.threshold_min")
    high = _knob(trial, "cam.threshold_max")
    if UNKNOWN in (low, high):
        return UNKNOWN
    return f"fixed {low}" if low == high else "best on train"


def _crf(trial: Trial) -> dict[str, Any]:
    cut = {
        "threshold_rule": _alpha(trial, "crf.alpha"),
        "threshold": trial.get("crf/implied_threshold"),
    }
    return _cam(trial) | cut | {"crf": _knob(trial, "crf.preset")}


def _pseudo(trial: Trial) -> dict[str, Any]:
    if _knob(trial, "pseudo.source") == "crf":
        return _crf(trial)
    cut = {"threshold_rule": _alpha(trial, "pseudo.alpha_walk"), "threshold": None}
    # Without a walk no CRF follows, and the knob is not recorded.
    walked = _knob(trial, "pseudo.source") != "cam"
    return _cam(trial) | cut | ({"crf": _knob(trial, "pseudo.crf")} if walked else {})


def _seg(trial: Trial) -> dict[str, Any]:
    return {
        "threshold_rule": "argmax",
        "threshold": None,
        "crf": _knob(trial, "seg.crf"),
        "scales": _scales(trial, "seg"),
        "init": _init(trial, "deeplab"),
    }


def _knob(trial: Trial, name: str) -> str:
    value = trial.get(f"param.{name}")
    return value if isinstance(value, str) else UNKNOWN


def _alpha(trial: Trial, name: str) -> str:
    value = _knob(trial, name)
    return UNKNOWN if value == UNKNOWN else f"alpha {value.removesuffix('.0')}"


def _scales(trial: Trial, stage: str) -> str:
    scales, flip = _knob(trial, f"{stage}.scales"), _knob(trial, f"{stage}.flip")
    if UNKNOWN in (scales, flip):
        return UNKNOWN
    mirrored = " mirrored" if flip == "true" else ""
    return " ".join(f"{scale:g}" for scale in parse_json(scales)) + mirrored


def _init(trial: Trial, field: str) -> str:
    """Return the origin of the weights of the network in `field`; a CGNet that starts from the
    classifier has the origin of the classifier.
    """
    init = _knob(trial, f"{field}.init")
    if init == "oc":
        return _init(trial, "oc")
    # a file is known by its digest once the sweep has read it, `sha256:` and 64 digits
    digest = init.removeprefix("sha256:")
    return f"file {digest[:12]}" if digest != init or "." in init else init
