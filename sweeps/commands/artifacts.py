"""`python -m sweeps artifacts`: the artifacts of a trial, as JSON for other programs."""

import argparse
import json
from pathlib import Path

from sweeps.commands.arguments import Commands, add_spec, add_tracking, read_sweep


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "artifacts", help="the fingerprints of a trial's artifacts, as JSON for other programs"
    )
    add_spec(parser, optional=True)
    parser.add_argument("--trial", help="a trial's number, or a part of its name (default: 0)")
    parser.add_argument(
        "--run", help="a run in MLflow, by its id or as EXPERIMENT/NAME, in place of a sweep's file"
    )
    add_tracking(parser)
    parser.set_defaults(command=artifacts)


def artifacts(options: argparse.Namespace) -> int:
    """Print `{"artifacts": {field: fingerprint}, "data_root": folder or null}`."""
    if (options.spec is None) == (options.run is None):
        given = "neither" if options.spec is None else "both"
        raise ValueError(f"expected either a sweep's file or --run, got {given}")
    if options.run is not None:
        found = _of_run(options.tracking, options.run)
        data_root: Path | None = options.data_root
    else:
        from sweeps.plan.explain import choose_trial
        from sweeps.tracking.names import TrialNames

        spec, trials = read_sweep(options)
        short_name = TrialNames(spec, trials).of
        trial = choose_trial(trials, options.trial or "0", short_name=short_name)
        found = {field: node.fingerprint for field, node in trial.nodes.items()}
        data_root = spec.data_root
    print(json.dumps({"artifacts": found, "data_root": data_root and str(data_root)}))
    return 0


def _of_run(tracking: str, run: str) -> dict[str, str]:
    from sweeps.tracking.query import FINGERPRINT, find_trial

    tags = find_trial(tracking, run).data.tags
    return {
        key.removeprefix(FINGERPRINT): value
        for key, value in tags.items()
        if key.startswith(FINGERPRINT)
    }
