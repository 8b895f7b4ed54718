"""`python -m analysis report EXPERIMENT ... OUT`: the results of sweeps as HTML, LaTeX and PDF."""

import argparse
import shlex
import sys
from pathlib import Path

from analysis.commands.arguments import add_experiments
from analysis.report.make import make_report


def declare(parser: argparse.ArgumentParser) -> None:
    add_experiments(parser)
    parser.add_argument(
        "out", type=Path, metavar="OUT", help="folder of the report; made where there is none"
    )


def run(options: argparse.Namespace) -> int:
    """Write the report, and print the name of each file."""
    command = shlex.join(["python", *sys.orig_argv[1:]])
    lines = make_report(options.experiments, options.out, tracking=options.tracking, again=command)
    for line in lines:
        print(line)
    return 0
