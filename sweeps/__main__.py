"""`python -m sweeps COMMAND`: plan a sweep, run it, and ask about it.

Each command is a file in `sweeps/commands`; `occse.naming.exit_codes` has the exit codes.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from occse.artifacts.secrets import Parser, masked_command, shown
from occse.naming.exit_codes import ExitCode, code_of
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
    except (ValueError, OSError) as error:
        if isinstance(error, OSError) and reader_left(error):
            raise
        print(shown(str(error)), file=sys.stderr)
        return code_of(error)
    except (KeyboardInterrupt, SystemExit):  # see exit_on_signals
        with suppress(OSError):  # the terminal may be the reason
            print(f"stopped; to go on: {options.again}", file=sys.stderr)
        return ExitCode.STOPPED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m sweeps", description="Plan, run and watch sweeps.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    every = (plan, explain, run, status, control, detached, reproduce, import_, mlflow, store)
    for command in (*every, doctor, schema, artifacts):
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(console())
