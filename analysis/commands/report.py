"""`python -m analysis report EXPERIMENT ... OUT`: all that sweeps found, in one HTML file, and as
LaTeX and PDF.
"""

import argparse
import shlex
import sys
from pathlib import Path

from analysis.commands.arguments import Commands, add_command
from analysis.report.make import make_report


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = add_command(
        commands, "report", report, help_="all of it as one HTML file, LaTeX and PDF", several=True
    )
    parser.add_argument(
        "out", type=Path, metavar="OUT", help="folder of the report; made where there is none"
    )


def report(options: argparse.Namespace) -> int:
    """Write the report, and say which files it has."""
    command = shlex.join(["python", *sys.orig_argv[1:]])
    for line in make_report(
        options.experiments, options.out, tracking=options.tracking, again=command
    ):
        print(line)
    return 0
