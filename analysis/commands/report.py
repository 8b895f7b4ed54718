"""`python -m analysis report EXPERIMENT ... OUT`: the results of sweeps as HTML, LaTeX and PDF."""

import argparse
import sys
from pathlib import Path

from analysis.commands.arguments import add_experiments, add_mlflow_pages, mlflow_pages
from analysis.commands.output import say
from analysis.read.secrets import masked_command
from analysis.report.make import make_report


def declare(parser: argparse.ArgumentParser) -> None:
    add_experiments(parser)
    parser.add_argument(
        "out", type=Path, metavar="OUT", help="folder of the report; made where there is none"
    )
    add_mlflow_pages(parser)


def run(options: argparse.Namespace) -> int:
    """Write the report, print the name of each file, and the progress on stderr."""
    lines = make_report(
        options.experiments,
        options.out,
        tracking=options.tracking,
        server=mlflow_pages(options),
        again=masked_command(["python", *sys.orig_argv[1:]]),
        progress=_print_progress,
        labels=options.labels,
    )
    for line in lines:
        say(line)
    return 0


def _print_progress(line: str) -> None:
    say(line, to_stderr=True)
