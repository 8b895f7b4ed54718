"""A real HTTP server that a sweep's hook posts to."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


class HookServer:
    """Keeps what is posted; `code` is its answer, and while `hangs` is set it gives none."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.code = 200
        self.hangs = threading.Event()
        self.freed = threading.Event()
        outside = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if outside.hangs.is_set():
                    outside.freed.wait()
                    return
                outside.messages.append(json.loads(body))
                self.send_response(outside.code)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}/secret-path"

    def __enter__(self) -> "HookServer":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.freed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def events(self) -> list[str]:
        """The events so far, in order."""
        return [message["event"] for message in self.messages]
