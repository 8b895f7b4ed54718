"""Command line of `python -m occse`; `occse.naming.exit_codes` has the exit codes."""

import shlex
import sys
from collections.abc import Sequence
from functools import partial

from occse.artifacts.secrets import Parser, shown
from occse.commands import data_check, explain, export, knobs, panels, predict, run, weights
from occse.commands.options import Finding
from occse.naming.exit_codes import ExitCode, code_of
from occse.naming.pipe import reader_left, with_reader
from occse.naming.terminal import print_anywhere
from occse.plugins import load_plugins

DESCRIPTION = "Run one trial on one machine, check data and weight files, list profiles and knobs."
COMMANDS = (run, export, predict, panels, data_check, weights, explain, knobs)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    print_anywhere()
    given = sys.argv[1:] if arguments is None else arguments
    return with_reader(partial(_run, given))


def _run(given: Sequence[str]) -> int:
    parser = Parser(prog="python -m occse", description=DESCRIPTION)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add(commands)
    options = parser.parse_args(given)
    options.command_line = f"python -m occse {shlex.join(given)}"
    try:
        load_plugins()
        options.command(options)
    except (ValueError, Finding, FloatingPointError, OSError) as error:
        if isinstance(error, OSError) and reader_left(error):
            raise
        print(f"occse: {shown(str(error))}", file=sys.stderr)
        return code_of(error)
    except KeyboardInterrupt:
        print(f"occse: stopped; to go on: {shown(options.command_line)}", file=sys.stderr)
        return ExitCode.STOPPED
    return ExitCode.WELL
