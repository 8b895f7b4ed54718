"""`python -m analysis report EXPERIMENT ... OUT`: the results of sweeps as HTML, LaTeX and PDF."""

import argparse
import sys
from pathlib import Path

from analysis.commands.arguments import add_experiments
from analysis.read.secrets import masked_command
from analysis.read.source.connect import server_address
from analysis.report.make import make_report

SCHEMES = ("http://", "https://")


def declare(parser: argparse.ArgumentParser) -> None:
    add_experiments(parser)
    parser.add_argument(
        "out", type=Path, metavar="OUT", help="folder of the report; made where there is none"
    )
    parser.add_argument(
        "--mlflow",
        metavar="URL",
        default="",
        help="where readers see MLflow's pages, for the links of runs (default: --tracking, if it "
        "is a server; readers can name another one in the page)",
    )


def run(options: argparse.Namespace) -> int:
    """Write the report, print the name of each file, and the progress on stderr."""
    if options.mlflow and not options.mlflow.startswith(SCHEMES):
        raise ValueError(f"--mlflow {options.mlflow}: expected http://... or https://...")
    lines = make_report(
        options.experiments,
        options.out,
        tracking=options.tracking,
        server=options.mlflow or server_address(options.tracking),
        again=masked_command(["python", *sys.orig_argv[1:]]),
        progress=_print_progress,
        labels=options.labels,
    )
    for line in lines:
        print(line)
    return 0


def _print_progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
