"""`occse data check`: count and verify the user's data set; writes nothing."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from occse.commands import data_relabel
from occse.commands.options import Commands, Finding, add_set, assignments
from occse.data.dataset import VOID, Dataset
from occse.data.inspect import Findings, inspect
from occse.data.tree import describe, tree_digest
from occse.naming.counts import number
from occse.pipeline import default_pipeline, override
from occse.stages.data import InPlace

# A tree that is wrong as a whole has a fault in every file; the first ones tell the kind.
SHOWN_FAULTS = 20
# Images between two updates of the progress.
PROGRESS_STEP = 50


def add(commands: Commands) -> None:
    data = commands.add_parser("data", help="check a data set, or mend its masks").add_subparsers(
        required=True, metavar="{check,relabel}"
    )
    data_relabel.add(data)
    command = data.add_parser("check", help="count and verify images, labels and masks")
    command.add_argument(
        "--data-root", type=Path, required=True, metavar="FOLDER", help="the data set"
    )
    command.add_argument(
        "--kind",
        choices=("voc", "coco", "folder"),
        default="voc",
        help="its layout (default: voc)",
    )
    add_set(command, example="data.images=all")
    command.set_defaults(command=check_data)


def check_data(options: argparse.Namespace) -> None:
    """Print the counts of the data set, and every fault of its files.

    Raises:
        Finding: files are at fault, or contradict each other.
    """
    knobs = assignments(options) | {"data.kind": options.kind}
    data = override(default_pipeline(), knobs).data
    # --kind allows no other.
    assert isinstance(data, InPlace)
    dataset = data.read(options.data_root)
    print("\n".join(describe(dataset, published=data.published())), flush=True)
    found = inspect(dataset, workers=os.cpu_count() or 1, report=_progress())
    print("\n".join(_pixels(dataset, found)), flush=True)
    print("".join(f"note: {line}\n" for line in found.notes), end="", flush=True)
    lines = [f"contradiction: {line}" for line in found.contradictions]
    if found.faults:
        num_hidden = len(found.faults) - SHOWN_FAULTS
        more = [f"... and {num_hidden} more"] if num_hidden > 0 else []
        lines += [
            f"{number(len(found.faults), 'fault')} in the files:",
            *found.faults[:SHOWN_FAULTS],
            *more,
        ]
    if lines:
        raise Finding("\n".join(lines))
    print(f"all images and masks are readable; digest {tree_digest(dataset)}")


def _progress() -> Callable[[int, int], None] | None:
    """Return a function that shows the number of images looked at; None without a terminal."""
    if not sys.stderr.isatty():
        return None

    def report(done: int, total: int) -> None:
        if done % PROGRESS_STEP == 0 or done == total:
            end = "\n" if done == total else ""
            print(f"\r{done:,} of {total:,} images decoded", end=end, file=sys.stderr, flush=True)

    return report


def _pixels(dataset: Dataset, found: Findings) -> Iterator[str]:
    """Yield the masks and the share of their pixels by class."""
    total = sum(found.pixels.values())
    if total == 0:
        return
    labels = {0: "background", VOID: "void"}
    labels |= {index + 1: name for index, name in enumerate(dataset.classes)}
    width = max(map(len, labels.values()))
    yield f"{'masks':<{width}}  {'masks':>9}  {'pixels':>9}"
    for label in sorted(labels):
        share = 100 * found.pixels[label] / total
        yield f"{labels[label]:<{width}}  {found.images[label]:>9,}  {share:>7.1f} %"
