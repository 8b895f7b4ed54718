"""`python -m sweeps plan SPEC` and `python -m sweeps run SPEC`."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from occse.pipeline import check_files
from sweeps.planning import describe, make_plan
from sweeps.schema import Spec
from sweeps.spec import Trial, load_spec, trials
from sweeps.store import Store


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 when all is well, 1 when a trial failed or could not be recorded, 2 when the input is bad.
    """
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return code


def plan(options: argparse.Namespace) -> int:
    """Print what a sweep would run and why; writes nothing."""
    spec, found = _load(options)
    store = Store(options.store)
    durations = store.durations()
    print(describe(make_plan(found, has=store.__contains__, resources=spec.resources_of, durations=durations), spec))
    return 0


def run(options: argparse.Namespace) -> int:
    """Run a sweep and print its table."""
    from sweeps.tracking import Tracking  # seconds of imports that `plan` and a faulty file need not wait for
    from sweeps.tuner import Cluster, run_sweep

    spec, found = _load(options)
    nodes = {node.fingerprint: node for trial in found for node in trial.nodes.values()}
    store = Store(options.store)
    check_files((node for node in nodes.values() if node not in store), spec.weights)
    summary = run_sweep(
        spec,
        found,
        store=store,
        tracking=Tracking(options.tracking, spec=spec),
        cluster=Cluster(address=options.address, num_cpus=options.num_cpus, max_concurrent=options.max_concurrent),
        say=lambda line: print(line, flush=True),
    )
    print(summary.describe(), flush=True)
    if summary.unrecorded < len(found):
        _show_table(spec.name, options.tracking)
    return 0 if summary.well else 1


def _show_table(name: str, uri: str) -> None:
    print(flush=True)
    # a process of its own: the platform never imports the analysis
    subprocess.run([sys.executable, "-m", "analysis", "table", name, "--tracking", uri], check=False)
    if uri.startswith("http"):
        print(f"\nMLflow: open {uri}")
    else:
        print(f"\nMLflow: {_python()} -m mlflow ui --backend-store-uri {uri}, then open http://127.0.0.1:5000")


def _python() -> str:
    """This Python as a person would type it here; its environment need not be activated."""
    path, here = Path(sys.executable), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _load(options: argparse.Namespace) -> tuple[Spec, list[Trial]]:
    spec = load_spec(options.spec)
    if options.data_root is not None:
        spec = spec.model_copy(update={"data_root": options.data_root})
    if options.weights is not None:
        spec = spec.model_copy(update={"weights": options.weights})
    return spec, trials(spec)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sweeps", description="Ablations of the whole pipeline.")
    commands = parser.add_subparsers(required=True)
    both = argparse.ArgumentParser(add_help=False)
    both.add_argument("spec", type=Path, help="the sweep's YAML file")
    both.add_argument("--store", type=Path, default=Path("runs/store"), help="folder of the artifacts (runs/store)")
    both.add_argument("--data-root", type=Path, help="the user's data set, instead of the spec's data_root")
    both.add_argument("--weights", type=Path, help="folder of the weight files, instead of the spec's weights")
    commands.add_parser("plan", parents=[both], help="what would run, and why").set_defaults(command=plan)
    command = commands.add_parser("run", parents=[both], help="run what is not in the store, record, print the table")
    command.set_defaults(command=run)
    tracking = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///runs/mlflow.db"
    command.add_argument("--tracking", default=tracking, help=f"MLflow's tracking URI ({tracking})")
    command.add_argument("--address", help="a running Ray cluster, such as auto; by default one on this machine")
    command.add_argument("--num-cpus", type=_positive, help="CPUs of the cluster on this machine (all)")
    command.add_argument("--max-concurrent", type=_positive, help="trials at a time (twice what can run, at least 4)")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a count of at least 1, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
