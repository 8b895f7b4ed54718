"""Outputs that nobody reads to their end; those of `analysis` are tried with its commands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from occse.naming.exit_codes import ExitCode
from occse.naming.pipe import reader_left

SPEC = "sweeps/specs/quickstart.yaml"


@pytest.mark.parametrize("words", [["occse", "knobs"], ["sweeps", "plan", SPEC]])
def test_command_line_ends_in_silence_when_its_reader_goes_away(words: list[str]) -> None:
    unread, output = os.pipe()
    os.close(unread)
    with os.fdopen(output, "wb") as pipe:
        ended = subprocess.run([sys.executable, "-m", *words], stdout=pipe, stderr=subprocess.PIPE)
    assert (ended.returncode, ended.stderr) == (ExitCode.READER_LEFT, b"")


def test_command_line_ends_in_silence_when_nobody_reads_its_errors() -> None:
    unread, output = os.pipe()
    os.close(unread)
    with os.fdopen(output, "wb") as pipe:
        ended = subprocess.run(
            [sys.executable, "-m", "occse", "explain", "nope"], stdout=subprocess.PIPE, stderr=pipe
        )
    assert (ended.returncode, ended.stdout) == (ExitCode.READER_LEFT, b"")


def test_output_that_takes_no_more_is_an_error_and_a_closed_one_is_none() -> None:
    words = [sys.executable, "-m", "occse", "knobs"]
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(words, stdout=full, stderr=subprocess.PIPE)
    assert ended.returncode == 1
    assert b"No space left on device" in ended.stderr
    assert b"Traceback" not in ended.stderr
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *words], stderr=subprocess.PIPE, check=False
    )
    assert (closed.returncode, closed.stderr) == (0, b"")


def test_broken_connection_of_a_server_is_no_reader_that_left() -> None:
    assert not reader_left(BrokenPipeError(32, "Broken pipe"))
