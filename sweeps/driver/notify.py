"""Messages of a sweep to a command or a URL of its user: end, failure, gate and budget.

A hook that fails, hangs or is not there costs the sweep nothing but a line."""

import http.client
import json
import os
import queue
import re
import shlex
import subprocess
import threading
import urllib.request
from collections.abc import Mapping
from typing import Literal

from occse.artifacts.secrets import shown
from sweeps.text import Say

Event = Literal[
    "end",  # the sweep ended, was stopped, or broke off
    "failure",  # a trial failed
    "gate",  # a gate held a trial back
    "budget",  # a limit was reached, and nothing more is launched
]
# Chat services answer within a second; a hook that takes longer hangs.
HOOK_S = 10.0
# The end of a sweep waits so long for messages that are still to be sent.
LAST_S = 15.0
# A sweep of which thousands of trials fail sends no more than this; the last message counts them.
MOST = 100
# $NAME or ${NAME}: a chat service's URL is a secret, which belongs into no file.
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


class Notifier:
    """Sends messages to one hook, one after the other, in a thread of its own.

    Args:
        hook: a URL (http or https), or a command; empty for none. `$NAME` stands for a variable of
            the environment.
        sweep: name of the sweep.
        say: takes a line where the hook fails for the first time.
    """

    def __init__(self, hook: str, *, sweep: str, say: Say) -> None:
        self._hook = hook
        self._sweep = sweep
        self._say = say
        self._messages: queue.SimpleQueue[Mapping[str, str] | None] = queue.SimpleQueue()
        self._sent = 0
        self._failed = False
        # A daemon: a hook that hangs must not keep the driver alive.
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        """Send what is told from now on."""
        if self._hook:
            self._thread.start()

    def tell(self, event: Event, text: str) -> None:
        """Send a message soon; return at once. The text goes out without secrets."""
        if not self._thread.is_alive():
            return
        self._sent += 1
        if self._sent <= MOST or event == "end":
            line = f"{self._sweep}: {event}: {shown(text)}"
            message = {"sweep": self._sweep, "event": event, "text": line}
            self._messages.put(message)

    def close(self, text: str) -> None:
        """Tell the end, and wait a little until everything is sent."""
        if self._thread.is_alive():
            self.tell("end", text)
            self._messages.put(None)
            self._thread.join(LAST_S)

    def _work(self) -> None:
        while (message := self._messages.get()) is not None:
            try:
                send(self._hook, json.dumps(message).encode())
            # whatever a user's hook does, the sweep goes on
            except Exception as error:
                if not self._failed:
                    self._failed = True
                    self._say(f"warning: notify: {explain(error, self._hook)}; the sweep goes on")


def send(hook: str, message: bytes) -> None:
    """Post `message` to the URL `hook`, or run the command `hook` with it as its input.

    Raises:
        ValueError: a variable of the hook is not set, or the command cannot be read.
        OSError: the hook cannot be reached or started, or refuses the message.
        subprocess.SubprocessError: the command fails, or takes too long.
    """
    if is_url(hook):
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(_expanded(hook), data=message, headers=headers)
        urllib.request.urlopen(request, timeout=HOOK_S).close()
        return
    # Without a shell, so that no text of the environment is read as a command.
    words = [_expanded(word) for word in shlex.split(hook)]
    subprocess.run(
        words,
        input=message,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=HOOK_S,
        check=True,
    )


def is_url(hook: str) -> bool:
    """Tell a URL, or a variable that holds one, from a command."""
    return _expanded(hook).startswith(("http://", "https://"))


def explain(error: Exception, hook: str) -> str:
    """Return why a hook failed, without the hook and its variables: its URL may be a secret."""
    if isinstance(error, subprocess.TimeoutExpired | TimeoutError):
        return f"the hook took longer than {HOOK_S:.0f} s"
    if isinstance(error, subprocess.CalledProcessError):
        said = error.stderr.decode(errors="replace").strip().splitlines()[-1:]
        text = f"the command ended with code {error.returncode}: {' '.join(said)}"
    elif isinstance(error, http.client.HTTPException):
        # Its text may be a part of the URL.
        text = f"{type(error).__name__}: expected the URL of a server that speaks HTTP"
    elif isinstance(error, ValueError):
        text = str(error)
    elif isinstance(error, OSError) and error.strerror:
        # Not the whole text, which names the file: the first word of the hook.
        text = f"{type(error).__name__}: {error.strerror}"
    else:
        text = f"{type(error).__name__}: {getattr(error, 'reason', error)}"
    for match in _VARIABLE.finditer(hook):
        value = os.environ.get(match[1] or match[2], "")
        if value:
            text = text.replace(value, match[0])
    return shown(text)


def _expanded(text: str) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in os.environ:
            raise ValueError(f"expected the variable {name} in the environment, found none")
        return os.environ[name]

    return _VARIABLE.sub(value, text)
