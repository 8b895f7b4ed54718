"""`python -m occse`: one trial on one machine, without Ray or MLflow; what data, weight files and
profiles are.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from occse.artifacts.execute import execute, find
from occse.artifacts.manifest import artifact_folder, load_manifest
from occse.artifacts.panels import choose, draw_panel
from occse.commands.explain import DEFAULT
from occse.commands.explain import explain as explain_profiles
from occse.data.dataset import Dataset, load_dataset
from occse.data.tree import describe, faults, tree_digest
from occse.method.crf import alpha_text, bracket_fault
from occse.pipeline import (
    TARGETS,
    Node,
    check_files,
    default_pipeline,
    override,
    plan,
    scored_fields,
)
from occse.stages.data import InPlace
from occse.weights.describe import describe as describe_weights

SHOWN_FAULTS = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 when all is well, 2 when the input is not."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except (ValueError, FloatingPointError, OSError) as error:
        print(f"occse: {error}", file=sys.stderr)
        return 2
    return 0


def run(options: argparse.Namespace) -> None:
    """Run what is not in the store yet, stage after stage, and print the scores."""
    nodes = _planned(options)
    check_files(
        (node for node in nodes.values() if load_manifest(options.store, node) is None),
        options.weights,
    )
    for number, node in enumerate(nodes.values(), start=1):
        alphas = [
            f"  {knob} {alpha_text(value)}"
            for knob, value in node.stage.config().items()
            if "alpha" in knob
        ]
        label = f"[{number}/{len(nodes)}] {node.field:<9} {node.fingerprint}{''.join(alphas)}"
        if find(options.store, node) is not None:
            print(f"{label}  from the store")
            continue
        print(f"{label}  running", flush=True)
        manifest = execute(
            node,
            root=options.store,
            device=options.device,
            workers=options.workers,
            processes=options.processes,
            accumulate=options.accumulate,
            data_root=options.data_root,
            weights=options.weights,
        )
        print(f"{label}  {manifest.seconds:.1f} s")
    _print_scores(options.store, nodes)


def _planned(options: argparse.Namespace) -> dict[str, Node]:
    overrides = dict(_assignment(text) for text in options.set)
    pipeline = override(default_pipeline(options.profile), overrides)
    return plan(pipeline.resolve(options.data_root, options.weights), targets=options.targets)


def _print_scores(store: Path, nodes: Mapping[str, Node]) -> None:
    found = {
        field: manifest
        for field, node in nodes.items()
        if (manifest := load_manifest(store, node)) is not None
    }
    for field in (field for field in scored_fields() if field in found):
        if "miou" in found[field].metrics:  # the test split has no score
            print(
                f"{field}/miou {found[field].metrics['miou']:.4f}  {artifact_folder(store, nodes[field])}"
            )
    if found.keys() >= {"cam", "crf_low", "crf_high"}:
        low, high = (found[field].config["alpha"] for field in ("crf_low", "crf_high"))
        if fault := bracket_fault(found["cam"].metrics["threshold"], low=low, high=high):
            print(f"warning: {fault}")


def panels(options: argparse.Namespace) -> None:
    """Draw what the stages made of some images, from what is in the store."""
    nodes, store = _planned(options), options.store
    folders = {
        field: artifact_folder(store, node) for field, node in nodes.items() if find(store, node)
    }
    if "data" not in folders:
        raise ValueError(
            f"{store} lacks the artifact {nodes['data'].fingerprint} of 'data': run the trial first"
        )
    names = options.images or _chosen(
        load_dataset(folders["data"], data_root=options.data_root), options.number
    )
    options.out.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = options.out / f"{name}.png"
        draw_panel(name, folders, data_root=options.data_root).save(path)
        print(path)
    if missing := [field for field in nodes if field not in folders]:
        print(f"not in {store}, and so not shown: {', '.join(missing)}")


def _chosen(dataset: Dataset, number: int) -> list[str]:
    return [name for split in ("train", "val") for name in choose(dataset, split, number=number)]


def check_data(options: argparse.Namespace) -> None:
    """Count and verify the user's data set; writes nothing."""
    data = override(
        default_pipeline(),
        dict(_assignment(text) for text in options.set) | {"data.kind": options.kind},
    ).data
    assert isinstance(data, InPlace)  # all that --kind allows
    dataset = data.read(options.data_root)
    print("\n".join(describe(dataset, published=data.published())), flush=True)
    if found := list(faults(dataset)):
        more = [f"... and {len(found) - SHOWN_FAULTS} more"] if len(found) > SHOWN_FAULTS else []
        raise ValueError(
            "\n".join((f"{len(found)} files are at fault:", *found[:SHOWN_FAULTS], *more))
        )
    print(f"all images and masks are readable; digest {tree_digest(dataset)}")


def weights(options: argparse.Namespace) -> None:
    """Print what the weight files are; all of them, before damage of one is an error."""
    described = [describe_weights(path) for path in options.files]
    print("\n".join(line for each in described for line in each.lines()), flush=True)
    if damaged := [str(each.path) for each in described if each.damage]:
        raise ValueError(f"damaged: {', '.join(damaged)}")


def explain(options: argparse.Namespace) -> None:
    """Print the knobs in which two profiles differ."""
    print("\n".join(explain_profiles(options.profile, options.other)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m occse", description=__doc__)
    commands = parser.add_subparsers(required=True)
    _add_data(commands.add_parser("data", help="look at a data set").add_subparsers(required=True))
    command = commands.add_parser(
        "weights", help="what weight files are, whether intact, and what they fit"
    )
    command.set_defaults(command=weights)
    command.add_argument("files", nargs="+", type=Path, metavar="FILE")
    command = commands.add_parser("explain", help="the knobs in which two profiles differ")
    command.set_defaults(command=explain)
    command.add_argument("profile", help="such as reference, paper, modern, embedded")
    command.add_argument(
        "other", nargs="?", default=DEFAULT, help="another profile; left out: the defaults"
    )
    command = commands.add_parser("run", help="run one trial, stage after stage")
    command.set_defaults(command=run)
    _add_trial(command)
    command.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    command.add_argument("--workers", type=int, default=0, help="processes beside this one")
    command.add_argument(
        "--processes", type=_positive, default=1, help="GPUs that share the batch of a training"
    )
    command.add_argument(
        "--accumulate", type=_positive, default=1, help="parts of a batch, where memory is short"
    )
    command = commands.add_parser("panels", help="pictures of what the stages made of some images")
    command.set_defaults(command=panels)
    _add_trial(command)
    command.add_argument(
        "--images", nargs="+", metavar="ID", help="names; default: some of train and of val"
    )
    command.add_argument(
        "--number", type=_positive, default=4, help="of images of each split, without --images (4)"
    )
    command.add_argument(
        "--out", type=Path, default=Path("panels"), help="folder of the PNGs (panels)"
    )
    return parser


def _add_trial(command: argparse.ArgumentParser) -> None:
    command.add_argument("--profile", help="named overrides, such as embedded")
    command.add_argument(
        "--set", action="append", default=[], metavar="KNOB=VALUE", help="such as cgnet.lr=0.02"
    )
    command.add_argument("--targets", nargs="+", default=TARGETS, help="the stages to reach")
    command.add_argument(
        "--store", type=Path, default=Path("runs/store"), help="folder of the artifacts"
    )
    command.add_argument("--data-root", type=Path, help="the user's data set")
    command.add_argument(
        "--weights", type=Path, help="folder of the weight files that a stage's init names"
    )


def _add_data(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("check", help="count and verify images, labels and masks")
    command.add_argument("--data-root", type=Path, required=True, help="the data set's folder")
    command.add_argument("--kind", choices=("voc", "coco", "folder"), default="voc")
    command.add_argument(
        "--set", action="append", default=[], metavar="KNOB=VALUE", help="such as data.images=all"
    )
    command.set_defaults(command=check_data)


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {number}")
    return number


def _assignment(text: str) -> tuple[str, Any]:
    knob, sign, value = text.partition("=")
    if not sign:
        raise ValueError(f"--set {text!r}: expected KNOB=VALUE, such as cgnet.lr=0.02")
    return knob, yaml.safe_load(value)


if __name__ == "__main__":
    sys.exit(main())
