"""Command line of `python -m occse`: its commands, and what the exit codes mean.

0 all is well; 1 something failed, or a check found faults; 2 the input is bad; 141 the reader of
the output went away, as `head` does.
"""

import shlex
import sys
from collections.abc import Sequence
from functools import partial

from occse.artifacts.secrets import Parser, shown
from occse.commands import data_check, explain, export, knobs, panels, predict, run, weights
from occse.commands.options import Finding
from occse.naming.pipe import reader_left, with_reader
from occse.naming.terminal import print_anywhere
from occse.plugins import load_plugins

DESCRIPTION = "One trial on one machine, and what data, weight files and profiles are."
COMMANDS = (run, export, predict, panels, data_check, weights, explain, knobs)

# All is well.
WELL = 0
# A training diverged, the store took no more, or a check found faults.
FAILED = 1
# A file, a knob or an option is not as expected.
BAD_INPUT = 2
# Paths that the user gave and that are not there count as bad input, other OSErrors do not.
WRONG_PATHS = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    print_anywhere()
    given = sys.argv[1:] if arguments is None else arguments
    return with_reader(partial(_run, given))


def _run(given: Sequence[str]) -> int:
    parser = Parser(prog="python -m occse", description=DESCRIPTION)
    commands = parser.add_subparsers(required=True)
    for module in COMMANDS:
        module.add(commands)
    options = parser.parse_args(given)
    options.command_line = f"python -m occse {shlex.join(given)}"
    try:
        load_plugins()
        options.command(options)
    except (ValueError, *WRONG_PATHS) as error:
        return _fail(error, BAD_INPUT)
    except (Finding, FloatingPointError, OSError) as error:
        if isinstance(error, OSError) and reader_left(error):
            raise
        return _fail(error, FAILED)
    return WELL


def _fail(error: Exception, code: int) -> int:
    print(f"occse: {shown(str(error))}", file=sys.stderr)
    return code
