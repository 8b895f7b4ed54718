"""Outputs of the official code, KAIST-vilab/OC-CSE: `experiments/NAME/log.txt` and its CAMs.

`log.txt` opens with every argument. After each epoch it scores that epoch's CAMs on the list
`train` at thirty thresholds, and the best epoch and threshold by this pixel ground truth are the
result. The folder `dict` has the CAMs. Each epoch overwrites it, and so does inference later, so
that only their score tells which epoch made them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from occse.data.dataset import Dataset
from occse.data.layouts.voc import read_voc
from occse.data.npy_dicts.class_maps import read_class_maps
from occse.data.reading import find_files, parse_json, read_bytes
from occse.method.evaluation import Counts, CountsBuilder, summarize
from occse.stages.cam import MakeCam
from sweeps.imports.runs import OldRun, normalized, sha256

LOG = "log.txt"
MAPS = "dict"
# A log of 100 epochs has 1 MB.
MAX_LOG_BYTES = 50_000_000
# The log cuts a score to 6 characters: two decimals of a percent and a digit more.
SAME_SCORE = 1e-3
SETTING = re.compile(r"(\w+) : (.*)")
SCORED = re.compile(r"Evaluate \S.* with (\S+)")
TRIED = re.compile(r"\d+/60 threshold: (\d\.\d+)\s+mIoU: ")
EPOCH = re.compile(r"Epoch (\d+) mIoU=(\d+\.?\d*)% at threshold (\d\.?\d*)")
KNOBS = {
    "batch_size": ["cgnet.batch_size"],
    "crop": ["cgnet.crop"],
    "lr": ["cgnet.lr"],
    # its optimizer takes the decay for the momentum, too
    "wt_dec": ["cgnet.weight_decay", "cgnet.momentum"],
    "max_epochs": ["cgnet.epochs"],
    "cc_init": ["cgnet.lambda_start"],
    "cc_slope": ["cgnet.lambda_slope"],
    "seed": ["cgnet.seed"],
    "er_init": ["cgnet.init"],
    "cl_init": ["oc.init"],
}
WEIGHTS = {"imagenet": "resnet_38d.params", "cam": "od_cam.pth"}
MODEL = "model_cse"
OF_MODEL = {
    "data.kind": "voc",
    "oc.backbone": "resnet38",
    "cgnet.backbone": "resnet38",
    "cgnet.erasing": "cse",
    "cgnet.mask_max": "batch",
    "cam.source": "cgnet",
    "cam.scales": (0.5, 1.0, 1.5, 2.0),
    "cam.flip": True,
}
"""Knobs that the file models/model_cse.py and its data fix, whatever the arguments."""


@dataclass(frozen=True, kw_only=True)
class Log:
    """Content of `log.txt`.

    Attributes:
        settings: the arguments.
        split: the list that was scored.
        tried: the thresholds.
        miou: of each epoch the best one, in percent, cut (not rounded) to six characters.
        threshold: of each epoch the best one.
    """

    settings: Mapping[str, str]
    split: str
    tried: Sequence[float]
    miou: Sequence[float]
    threshold: Sequence[float]

    @property
    def best(self) -> int:
        """Epoch that the official code reports, from 0: the first with the highest mIoU."""
        return self.miou.index(max(self.miou))


def read_log(path: Path) -> Log:
    """Return the log of one training.

    Raises:
        ValueError: it is none, has no scored epoch, or holds more than one training.
    """
    expected = "the log of the official code's train.py"
    content = read_bytes(path, limit=MAX_LOG_BYTES, expected=expected)
    lines = [line.strip() for line in content.decode(errors="replace").splitlines()]
    settings = dict(_settings(lines))
    if not settings:
        raise ValueError(
            f"{path} has no block SETUP with lines `argument : value`; expected {expected}"
        )
    epochs = [match.groups() for line in lines if (match := EPOCH.fullmatch(line))]
    if [int(number) for number, _, _ in epochs] != list(range(len(epochs))):
        raise ValueError(
            f"{path} has its epochs in another order than 0, 1, 2, ...; expected the log of one "
            "training"
        )
    if not epochs or not all(float(miou) <= 100 and float(at) < 1 for _, miou, at in epochs):
        raise ValueError(
            f"{path} has no line `Epoch N mIoU=..% at threshold t`, or one out of range; nothing "
            "to import"
        )
    lists = {Path(match[1]).stem for line in lines if (match := SCORED.fullmatch(line))}
    return Log(
        settings=settings,
        split=lists.pop() if len(lists) == 1 else "unknown",
        tried=sorted({float(match[1]) for line in lines if (match := TRIED.match(line))}),
        miou=[float(miou) for _, miou, _ in epochs],
        # sums of binary fractions: 0.30000000000000004
        threshold=[round(float(at), 2) for _, _, at in epochs],
    )


def official_run(
    folder: Path, *, variant: str | None, seed: int | None, baseline: bool, data_root: Path | None
) -> OldRun:
    """Return the run whose outputs lie in `folder`.

    Its CAMs are scored anew where `data_root` (of VOC 2012) is given.

    Raises:
        ValueError: log, CAMs or data are missing, damaged, or not of the official code.
    """
    log = read_log(folder / LOG)
    params, others = _knobs(log)
    content = sha256((folder / LOG).read_bytes())
    if seed is None and not log.settings.get("seed", "").isdecimal():
        raise ValueError(f"{folder / LOG} names no seed; give one with --seed")
    best = log.best
    run = OldRun(
        variant=variant or log.settings.get("name") or folder.resolve().name,
        seed=int(log.settings["seed"]) if seed is None else seed,
        baseline=baseline,
        source=f"{folder / LOG} sha256:{content}",
        made=int((folder / LOG).stat().st_mtime * 1000),
        content=content,
        scores={"cam/miou": log.miou[best] / 100, "cam/threshold": log.threshold[best]},
        curves={
            "cgnet/cam_miou": [miou / 100 for miou in log.miou],
            "cgnet/cam_threshold": log.threshold,
        },
        params=params,
        others=others,
        protocol={"cam": _protocol(log, params)},
        pixel_truth=(f"cam.threshold on {log.split}", f"cam.epoch on {log.split}"),
        notes=list(_notes(log)),
    )
    if data_root is not None:
        return _scored(run, log, folder / MAPS, data_root)
    return replace(
        run, notes=[*run.notes, "its scores are those of the log; its CAMs were not scored"]
    )


def _settings(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the arguments, which stand between the line with SETUP and the next of dashes."""
    inside = False
    for line in lines:
        if line.startswith("-----"):
            if inside:
                return
            inside = " SETUP " in line
        elif inside and (match := SETTING.fullmatch(line)):
            yield match[1], match[2]


def _knobs(log: Log) -> tuple[dict[str, str], dict[str, str]]:
    """Return the settings by our knobs, and the rest by their own names.

    All settings of another model than the official one are the rest.
    """
    if log.settings.get("model") != MODEL:
        return {}, dict(log.settings)
    fixed: dict[str, object] = dict(OF_MODEL)
    if log.tried:
        fixed |= {"cam.threshold_min": log.tried[0], "cam.threshold_max": log.tried[-1]}
    params = {knob: normalized(knob, value) for knob, value in fixed.items()}
    others = {}
    for key, text in log.settings.items():
        try:
            knobs = {knob: normalized(knob, value) for knob, value in _mapped(key, text)}
        except ValueError:  # a value that no knob of ours takes is kept as it is
            knobs = {}
        params |= knobs
        if not knobs:
            others[key] = text
    return params, others


def _mapped(key: str, text: str) -> Iterator[tuple[str, object]]:
    """Yield the knobs that a setting means, with their values."""
    if key == "resize" and (sides := re.fullmatch(r"\[(\d+), (\d+)\]", text)):
        yield from zip(
            ("cgnet.resize_min", "cgnet.resize_max"), map(int, sides.groups()), strict=True
        )
    for knob in KNOBS.get(key, ()):
        yield knob, WEIGHTS.get(text, text) if knob.endswith(".init") else parse_json(text)


def _protocol(log: Log, params: Mapping[str, str]) -> dict[str, str]:
    known = {"split": log.split, "crf": "none", "threshold_rule": f"best on {log.split}"}
    if params:
        known |= {
            "data": "voc",
            "scales": "0.5 1 1.5 2 mirrored",
            "init": f"file {params['cgnet.init']}",
        }
    return known


def _notes(log: Log) -> Iterator[str]:
    yield (
        f"epoch {log.best + 1} of {len(log.miou)} is the best by the pixel ground truth of "
        f"{log.split}, as it reports"
    )
    planned = log.settings.get("max_epochs", "")
    if planned.isdecimal() and int(planned) > len(log.miou):
        yield f"the training ended after {len(log.miou)} of {planned} epochs"


def _scored(run: OldRun, log: Log, maps: Path, data_root: Path) -> OldRun:
    """Return the same run with the scores of the CAMs that lie there now, by our evaluation."""
    dataset = read_voc(data_root)
    counts = _counts(maps, dataset)
    scores = summarize(
        counts, multi_label={name for name in counts.names if len(dataset.labels[name]) > 1}
    )
    epochs = [
        number
        for number, (miou, threshold) in enumerate(zip(log.miou, log.threshold, strict=True))
        if abs(miou - 100 * scores["miou"]) < SAME_SCORE and threshold == scores["threshold"]
    ]
    if epochs:
        epoch = (
            f"the CAMs in {maps.name} are those of epoch {epochs[-1] + 1}: the log has their score "
            "there"
        )
    else:
        epoch = (
            f"no epoch in the log has the score of the CAMs in {maps.name}, "
            f"{100 * scores['miou']:.3f} %"
        )
    chosen = [f"cam.epoch on {log.split}"] if log.best in epochs else []
    return replace(
        run,
        source=f"{run.source}, {len(counts.names)} files in {maps}",
        content=run.content + sha256(counts.confusion().tobytes()),
        scores={f"cam/{name}": value for name, value in scores.items()},
        protocol={
            "cam": {
                **run.protocol["cam"],
                "split": "train",
                "threshold_rule": "best on train",
                "data": "voc",
            }
        },
        pixel_truth=("cam.threshold on train", *chosen),
        counts={"cam": counts},
        notes=[*run.notes, epoch],
    )


def _counts(maps: Path, dataset: Dataset) -> Counts:
    """Return the confusion counts of the CAMs of all images of `train`."""
    names = dataset.splits["train"]
    if not maps.is_dir():
        raise ValueError(
            f"{maps} is missing; without CAMs leave --data-root out, and the log alone is imported"
        )
    find_files(maps, (f"{name}.npy" for name in names), source="the list train")
    builder = CountsBuilder(dataset.classes, thresholds=MakeCam().thresholds())
    for name in names:
        cam, classes = read_class_maps(maps / f"{name}.npy", num_classes=len(dataset.classes))
        builder.add_cam(name, cam, classes=classes, gt=dataset.mask(name))
    return builder.build()
