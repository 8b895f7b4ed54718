"""Signals to the driver: the first Ctrl-C lets running stages reach their checkpoint.

The second Ctrl-C, a SIGTERM, and the SIGHUP of a closed terminal end the sweep now."""

import _thread
import signal
import sys
import threading
from types import FrameType, TracebackType


def exit_on_signals() -> None:
    """Make a SIGTERM, and the SIGHUP of a terminal that is closed, raise `SystemExit`.

    Call it again after Ray has started: Ray's own handler gives the process three seconds.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
        # `nohup` has it ignored, so that the sweep outlives the terminal
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, lambda number, frame: sys.exit(number))


class Interrupt:
    """Context in which a Ctrl-C sets `pressed` and the next one raises `KeyboardInterrupt`."""

    def __init__(self) -> None:
        self.pressed = False

    def __enter__(self) -> "Interrupt":
        # Python allows handlers in the main thread only; elsewhere nobody can press Ctrl-C
        if threading.current_thread() is threading.main_thread():
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
        """Raise `KeyboardInterrupt` in the main thread, from another one.

        Called when all stages that could stop have stopped."""
        # Ray Tune holds the main thread, which can be left by an exception only.
        _thread.interrupt_main()

    def _press(self, number: int, frame: FrameType | None) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True
