"""Ctrl-C: the first lets running stages reach their checkpoint, the second ends the sweep now, as
does a SIGTERM.
"""

import _thread
import signal
import sys
import threading
import time
from dataclasses import dataclass
from types import FrameType, TracebackType

from sweeps.store.backends import Files

ASK_EVERY_S = 1.0


def stop_file(fingerprint: str) -> str:
    """The file of the store whose presence asks a running stage to stop; it lies beside the stage's
    checkpoint.
    """
    return f"scratch/{fingerprint}/.stop"


@dataclass
class StopRequested:
    """Whether the file is there; looks at most once a second, so that a training may ask after
    every step.
    """

    files: Files
    name: str
    asked: float = float("-inf")

    def __call__(self) -> bool:
        """Ask the store, or answer no where it was asked less than a second ago."""
        if time.monotonic() - self.asked < ASK_EVERY_S:
            return False
        self.asked = time.monotonic()
        return self.files.read(self.name) is not None


def exit_on_sigterm() -> None:
    """Make a SIGTERM a `SystemExit`; once more after Ray has started, whose handler allows a
    process three seconds.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))


class Interrupt:
    """While entered, the first Ctrl-C sets `pressed` and the second raises `KeyboardInterrupt`."""

    def __init__(self) -> None:
        self.pressed = False

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():  # only there may a handler be set
            self._before = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._before)

    @staticmethod
    def press_again() -> None:
        """End the main thread's work, from another thread: all that can stop has stopped."""
        _thread.interrupt_main()

    def _press(self, number: int, frame: FrameType | None) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True
