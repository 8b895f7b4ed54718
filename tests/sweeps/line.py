"""A line to a server on this machine that can be cut and mended, as a network is."""

import contextlib
import socket
import threading
from types import TracebackType

# More than any answer of the tests' servers needs at a time.
CHUNK = 1 << 16


class Line:
    """Forwards connections to `port` from a port of its own, unless it is cut.

    A cut line closes what is open and every new connection at once, as a server that is down."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._whole = threading.Event()
        self._whole.set()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> "Line":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cut()
        # a blocked `accept` does not end when its socket is closed
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def cut(self) -> None:
        """Break every connection, and let no new one through."""
        self._whole.clear()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Let new connections through."""
        self._whole.set()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self._whole.is_set():
                near.close()
                continue
            far = socket.create_connection(self._target)
            with self._lock:
                self._open |= {near, far}
            threads = [
                threading.Thread(target=self._forward, args=ends, daemon=True)
                for ends in ((near, far), (far, near))
            ]
            threading.Thread(target=self._close, args=(threads, near, far), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _close(self, threads: list[threading.Thread], *ends: socket.socket) -> None:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with self._lock:
            self._open.difference_update(ends)
        for end in ends:
            end.close()
