"""Threads beside the one that feeds a device: reading ahead of it, writing behind it.

The main thread only starts the device's work. Were it to decode the next images itself, or to
write the last results, the device would wait for it. Threads suffice: decoding, resizing and
compressing leave Python's lock to the others.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")
Result = TypeVar("Result")


def read_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int
) -> Iterator[Result]:
    """Yield `function` of each item, in order, computed in threads ahead of the consumer.

    One result more than there are threads is in memory, beside the one that was yielded last. An
    exception in `function` reaches the consumer at that item.

    Args:
        function: reads one item; it is called in several threads at once.
        items: taken in the consumer's thread.
        threads: number of threads, at least 1.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="reader")
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            # While the consumer works on one result, all threads have one to read.
            if len(pending) > threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        # Without the cancellation a consumer that gave up would wait for items it never sees.
        pool.shutdown(cancel_futures=True)


class WriteBehind(Generic[Item]):
    """Calls a function in one thread, in the order of the items, while the caller goes on.

    Leaving the `with` block waits for all items. An exception in the function reaches the caller at
    a later item, or at the end; the items after it are not written.

    Args:
        function: takes one item.
        depth: items that may wait. The caller waits where there are more, so that results do not
            fill the memory if writing is slower than computing.
    """

    def __init__(self, function: Callable[[Item], None], *, depth: int) -> None:
        self._function = function
        self._depth = depth
        self._pending: deque[Future[None]] = deque()
        self._failed = False
        # A single thread: files and counts are written in the order of the items.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="writer")

    def put(self, item: Item) -> None:
        """Hand an item over."""
        self._pending.append(self._pool.submit(self._write, item))
        while len(self._pending) > self._depth:
            self._wait()

    def __enter__(self) -> "WriteBehind[Item]":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            while error is None and self._pending:
                self._wait()
        finally:
            # After an error of the caller, nothing that waits is worth its time.
            self._pool.shutdown(cancel_futures=True)

    def _write(self, item: Item) -> None:
        # The items behind an error are in the queue already: written, they would hide the gap.
        if self._failed:
            return
        try:
            self._function(item)
        except BaseException:
            self._failed = True
            raise

    def _wait(self) -> None:
        self._pending.popleft().result()


class HostCopy:
    """A tensor on its way to the CPU. A tensor of the CPU is there already.

    A GPU runs behind the program that feeds it. `tensor.cpu()` waits until it has caught up, and
    then the GPU waits for the program; this copy runs beside both.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._copied: torch.cuda.Event | None = None
        self._tensor = tensor.detach()
        if tensor.is_cuda:
            self._tensor = self._tensor.to("cpu", non_blocking=True)
            # The copy is not finished before this event has happened.
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record()

    def wait(self) -> Tensor:
        """Return the tensor on the CPU, once it is complete."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._tensor
