"""`python -m sweeps COMMAND`: plan a sweep, run it, and ask about it.

Each command is a file in `sweeps/commands`. Exit codes: 0 well; 1 something failed or is stale,
such as a trial or a server that does not answer; 2 bad input; 130 stopped by a signal; 141 the
reader of the output went away, as `head` does.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from occse.artifacts.secrets import Parser, masked_command, shown
from occse.naming.pipe import reader_left, with_reader
from occse.naming.terminal import print_anywhere
from sweeps.commands import (
    artifacts,
    control,
    detached,
    doctor,
    explain,
    import_,
    mlflow,
    plan,
    reproduce,
    run,
    schema,
    status,
    store,
)
from sweeps.commands.arguments import TRACKING_URI, python, without_password
from sweeps.driver.interrupt import exit_on_signals

# The exit codes of all command lines of the project.
FAILED = 1
# As argparse exits where it cannot read the arguments.
BAD_INPUT = 2
# As a shell reports a process that Ctrl-C ended: 128 and the number of SIGINT.
STOPPED = 130
# Paths that the user gave and that are not there count as bad input, other OSErrors do not.
WRONG_PATHS = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


def console() -> int:
    """Run the command line as a program of its own."""
    _hide_password()
    exit_on_signals()
    print_anywhere()
    return with_reader(main)


def _hide_password() -> None:
    """Start this program anew if its arguments have the password of the tracking server.

    All users of a machine see the arguments of a process, and Ray shows those of a driver to all
    users of its cluster. The same process goes on, with the password in its environment instead.
    """
    words, uri = without_password(sys.orig_argv)
    if uri:
        # the whole path, by which Python finds its environment
        command = [sys.executable, *words[1:]]
        os.execve(sys.executable, command, os.environ | {TRACKING_URI: uri})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(words)
    options.words = list(words)
    options.again = masked_command([python(), "-m", "sweeps", *words])
    try:
        code: int = options.command(options)
    except (ValueError, *WRONG_PATHS) as error:
        print(shown(str(error)), file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        if reader_left(error):
            raise
        print(shown(str(error)), file=sys.stderr)
        return FAILED
    except (KeyboardInterrupt, SystemExit):  # see exit_on_signals
        with suppress(OSError):  # the terminal may be the reason
            print(f"stopped; to go on: {options.again}", file=sys.stderr)
        return STOPPED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m sweeps", description="Ablations of the whole pipeline.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    every = (plan, explain, run, status, control, detached, reproduce, import_, mlflow, store)
    for command in (*every, doctor, schema, artifacts):
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(console())
