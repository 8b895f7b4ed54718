"""`occse run`: run one trial, stage after stage."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from occse.artifacts.checksums import move_aside
from occse.artifacts.execute import execute, find
from occse.artifacts.manifest import artifact_folder, load_manifest
from occse.artifacts.source import ChangedCode, changes
from occse.commands.options import Commands, add_changed_code, add_trial, planned
from occse.commands.values import add_device, chosen_device, natural, positive
from occse.method.crf import alpha_text, bracket_fault
from occse.pipeline import Node, check_files, doubts, scored_fields
from occse.stage import Machine


def add(commands: Commands) -> None:
    command = commands.add_parser("run", help="run one trial, stage after stage")
    command.set_defaults(command=run)
    add_trial(command)
    add_changed_code(command)
    add_device(command)
    command.add_argument(
        "--workers",
        type=natural,
        default=0,
        metavar="N",
        help="processes beside this one that load data and run CRFs (default: 0)",
    )
    command.add_argument(
        "--processes",
        type=positive,
        default=1,
        metavar="N",
        help="number of GPUs that share each batch of a training (default: 1)",
    )
    command.add_argument(
        "--accumulate",
        type=positive,
        default=1,
        metavar="N",
        help="number of parts in which a batch goes through the network, to save memory "
        "(default: 1)",
    )


def run(options: argparse.Namespace) -> None:
    """Run the stages that are not in the store yet, and print the scores."""
    nodes = planned(options)
    for doubt in doubts(nodes):
        print(f"warning: {doubt}")
    changed = _changed(options, nodes)
    missing = [node for node in nodes.values() if load_manifest(options.store, node) is None]
    check_files(missing, options.weights)
    machine = Machine(
        device=chosen_device(options),
        workers=options.workers,
        processes=options.processes,
        accumulate=options.accumulate,
        data_root=options.data_root,
        weights=options.weights,
    )
    for number, node in enumerate(nodes.values(), start=1):
        label = f"[{number}/{len(nodes)}] {node.field:<9} {node.fingerprint}{_alphas(node)}"
        # Asked now: a stage before this one may have made the same artifact (CRFs at one alpha).
        if find(options.store, node) is not None:
            reason = changed.get(node.fingerprint)
            print(f"{label}  from the store{f', {reason}' if reason else ''}")
            continue
        print(f"{label}  running", flush=True)
        manifest = execute(node, root=options.store, machine=machine)
        print(f"{label}  {manifest.seconds:.1f} s")
    _print_scores(options.store, nodes)
    if changed:
        print(
            f"warning: artifacts made by other code: {len(changed)}; "
            f"to make them again: {options.command_line} --changed-code rerun"
        )


def _changed(options: argparse.Namespace, nodes: Mapping[str, Node]) -> dict[str, str]:
    """Return the reason for each stored artifact that other code made, by fingerprint.

    Those that are to be made again are set aside.
    """
    if options.changed_code is ChangedCode.REUSE:
        return {}
    by_fingerprint = {node.fingerprint: node for node in nodes.values()}
    manifests = {name: load_manifest(options.store, node) for name, node in by_fingerprint.items()}
    made = {name: manifest for name, manifest in manifests.items() if manifest is not None}
    reasons = changes(made, by_fingerprint)
    if options.changed_code is ChangedCode.WARN:
        return reasons
    for name, reason in reasons.items():
        node = by_fingerprint[name]
        aside = move_aside(options.store, node.kind, name)
        print(f"{node.field} {name}: {reason}; moved to {aside}")
    return {}


def _alphas(node: Node) -> str:
    """Return the alphas of a stage and the thresholds that they imply, as the end of a label."""
    config = node.stage.config()
    alphas = [f"  {knob} {alpha_text(value)}" for knob, value in config.items() if "alpha" in knob]
    return "".join(alphas)


def _print_scores(store: Path, nodes: Mapping[str, Node]) -> None:
    manifests = {field: load_manifest(store, node) for field, node in nodes.items()}
    made = {field: manifest for field, manifest in manifests.items() if manifest is not None}
    for field in scored_fields():
        # The test split has no score.
        if field in made and "miou" in made[field].metrics:
            folder = artifact_folder(store, nodes[field])
            print(f"{field}/miou {made[field].metrics['miou']:.4f}  {folder}")
    bracketed = "cam" in made and "crf_low" in made and "crf_high" in made
    # Without any mask the CAMs are not scored, and no threshold is the best.
    if bracketed and "threshold" in made["cam"].metrics:
        fault = bracket_fault(
            made["cam"].metrics["threshold"],
            low=made["crf_low"].config["alpha"],
            high=made["crf_high"].config["alpha"],
        )
        if fault:
            print(f"warning: {fault}")
