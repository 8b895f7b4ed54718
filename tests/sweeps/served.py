"""A real MLflow server, as `python -m sweeps mlflow` starts it, and a bad line to it."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests
from waiting import wait_until

PATIENCE_S = 120.0


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@contextmanager
def server(database: str, *, port: int | None = None) -> Iterator[str]:
    """Its address, once it answers; ended by its process group. With a `port` it comes back where
    it was.
    """
    port = port or free_port()
    command = [
        sys.executable,
        "-m",
        "sweeps",
        "mlflow",
        "--tracking",
        database,
        "--port",
        str(port),
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env=dict(os.environ), start_new_session=True, **quiet)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(url), what="the MLflow server", process=process)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(url: str) -> bool:
    """Tell whether the server at `url` is ready."""
    try:
        return requests.get(f"{url}/health", timeout=1).ok
    except requests.RequestException:
        return False


@contextmanager
def losing(uri: str, lost: list[str]) -> Iterator[str]:
    """The address of a line to the server that loses one answer for each ending of a path in
    `lost`, which shrinks.
    """

    class Line(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            kind = {"Content-Type": self.headers.get("Content-Type", "")}
            answer = requests.request(
                self.command, uri + self.path, data=body, headers=kind, timeout=PATIENCE_S
            )
            path = self.path.partition("?")[0]
            if found := next((each for each in lost if path.endswith(each)), None):
                lost.remove(found)
                self.close_connection = True
                return
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_PATCH = _pass_on  # noqa: N815 - names of the library

        def log_message(self, *text: object) -> None:
            """Say nothing."""

    line = ThreadingHTTPServer(("127.0.0.1", 0), Line)
    threading.Thread(target=line.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{line.server_port}"
    line.shutdown()
    line.server_close()
