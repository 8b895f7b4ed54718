"""`python -m sweeps doctor [SPEC]`: check every machine before a sweep, with the remedy of each
fault.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.commands.arguments import Commands, add_spec, add_store, add_tracking, read_sweep
from sweeps.doctor.facts import Facts, Question

if TYPE_CHECKING:
    from sweeps.doctor.report import Finding


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "doctor", help="check GPUs, store, tracking, data and weights from every machine"
    )
    add_spec(parser, optional=True)
    add_store(parser)
    add_tracking(parser)
    parser.add_argument(
        "--address", help="a running Ray cluster, such as auto (default: this machine alone)"
    )
    parser.add_argument(
        "--autoscaling",
        action="store_true",
        help="start a machine of each node type of the cluster, and check these too",
    )
    parser.set_defaults(command=doctor)


def doctor(options: argparse.Namespace) -> int:
    """Print a line for each machine and for each fault.

    Returns:
        0 where no fault would stop a sweep, else 1.
    """
    from occse.naming.counts import number
    from sweeps.cluster.connection import Cluster, joined
    from sweeps.doctor.report import ask_here, judge, token_in
    from sweeps.store.store import Store

    if options.autoscaling and options.address is None:
        raise ValueError("--autoscaling: expected the --address of a cluster that can grow")
    store = Store(options.store)
    store.check_writable()
    with token_in(store.files) as token:
        question = _question(options, store.url, token)
        driver = ask_here(question)
        machines = [driver]
        started: list[Finding] = []
        if options.address:
            with joined(Cluster(address=options.address), say=print):
                machines, started = _ask_cluster(question, autoscaling=options.autoscaling)
    findings = [*started, *judge(driver, machines)]
    print("\n".join(map(str, findings)))
    errors = sum(finding.level == "error" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    counts = {"machine": len(machines), "error": errors, "warning": warnings}
    print(", ".join(number(count, what) for what, count in counts.items()))
    return 1 if errors else 0


def _ask_cluster(question: Question, *, autoscaling: bool) -> "tuple[list[Facts], list[Finding]]":
    """Return the facts about every machine, those started for it among them, and how they started.

    Raises:
        ValueError: machines of each node type are wanted, but the cluster does not tell its types.
    """
    from sweeps.cluster.demand import node_types
    from sweeps.doctor.one_of_each import one_of_each
    from sweeps.doctor.report import ask_nodes

    if not autoscaling:
        return ask_nodes(question), []
    types = node_types()
    if not types:
        raise ValueError(
            "--autoscaling: expected a cluster whose head knows its node types (`ray up`); this "
            "one does not tell them: start workers first, and leave --autoscaling out"
        )
    with one_of_each(types, say=print) as started:
        return ask_nodes(question), started


def _question(options: argparse.Namespace, store: str, token: str) -> Question:
    from occse.stages.data import InPlace
    from occse.stages.trained import SHA256, is_file
    from sweeps.spec.trials import distinct_nodes

    data = None
    digests: set[str] = set()
    data_root = options.data_root
    weights = options.weights
    if options.spec is not None:
        spec, trials = read_sweep(options)
        data_root = spec.data_root
        weights = spec.weights
        stages = [node.stage for node in distinct_nodes(trials).values()]
        data = next(
            (stage.model_dump(mode="json") for stage in stages if isinstance(stage, InPlace)), None
        )
        files = {init for stage in stages if is_file(init := getattr(stage, "init", ""))}
        digests = {init.removeprefix(SHA256) for init in files if init.startswith(SHA256)}
    return Question(
        store=store,
        token=token,
        tracking=options.tracking,
        data=data,
        data_root=_absolute(data_root),
        weights=_absolute(weights),
        digests=sorted(digests),
    )


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())
