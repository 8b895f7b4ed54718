"""Reading ahead and writing behind, with partners that wait for each other."""

import threading
from collections.abc import Iterator

import pytest
import torch

from occse.data.read_ahead import HostCopy, WriteBehind, read_ahead

# Partners that meet wait some milliseconds; those that never meet fail after this.
PATIENCE_S = 10.0


def test_read_ahead_reads_the_next_item_while_the_last_one_is_used() -> None:
    read = [threading.Event() for _ in range(3)]

    def reader(number: int) -> int:
        read[number].set()
        return number

    for number in read_ahead(reader, range(3), threads=1):
        following = min(number + 1, 2)
        assert read[following].wait(PATIENCE_S), f"{following} is not read while {number} is used"


def test_read_ahead_uses_all_its_threads_and_keeps_the_order() -> None:
    # Each reader waits for the other one: with a single thread they would wait in vain.
    both = threading.Barrier(2, timeout=PATIENCE_S)

    def reader(number: int) -> int:
        both.wait()
        return number

    assert list(read_ahead(reader, range(6), threads=2)) == [0, 1, 2, 3, 4, 5]


def test_read_ahead_takes_no_more_items_than_its_threads_can_read() -> None:
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = read_ahead(lambda number: number, numbers(), threads=3)
    assert next(results) == 0
    assert taken == [0, 1, 2, 3]
    results.close()


def test_read_ahead_hands_an_error_to_the_consumer_at_its_item() -> None:
    results = read_ahead(lambda number: 1 / number, [2, 1, 0, 4], threads=2)
    assert [next(results), next(results)] == [0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_write_behind_writes_in_order_while_the_caller_goes_on() -> None:
    handed_over = threading.Event()
    written: list[int] = []

    def write(number: int) -> None:
        assert handed_over.wait(PATIENCE_S), "the caller waits for the writer"
        written.append(number)

    with WriteBehind(write, depth=2) as behind:
        behind.put(1)
        behind.put(2)
        handed_over.set()
        behind.put(3)
    assert written == [1, 2, 3]


def test_write_behind_makes_the_caller_wait_where_too_much_is_unwritten() -> None:
    may_write = threading.Event()

    def write(number: int) -> None:
        may_write.wait(PATIENCE_S)

    with WriteBehind(write, depth=1) as behind:
        behind.put(1)
        third = threading.Thread(target=behind.put, args=(2,))
        third.start()
        third.join(0.1)
        assert third.is_alive(), "a second item may wait only once the first one is written"
        may_write.set()
        third.join(PATIENCE_S)
        assert not third.is_alive()


def test_write_behind_hands_an_error_on_and_writes_nothing_after_it() -> None:
    written: list[float] = []

    def all_of_them() -> None:
        with WriteBehind(lambda number: written.append(1 / number), depth=8) as behind:
            for number in (1, 0, 2, 4):
                behind.put(number)

    with pytest.raises(ZeroDivisionError):
        all_of_them()
    assert 0.25 not in written


def test_write_behind_drops_what_waits_where_the_caller_fails() -> None:
    may_write = threading.Event()
    written: list[int] = []

    def write(number: int) -> None:
        may_write.wait(PATIENCE_S)
        written.append(number)

    def fail() -> None:
        with WriteBehind(write, depth=8) as behind:
            for number in range(4):
                behind.put(number)
            threading.Timer(0.05, may_write.set).start()
            raise KeyError("the caller")

    with pytest.raises(KeyError):
        fail()
    assert len(written) <= 1


def test_host_copy_of_a_tensor_of_the_cpu_is_the_tensor() -> None:
    values = torch.arange(3.0, requires_grad=True)
    copy = HostCopy(values).wait()
    assert torch.equal(copy, values)
    assert not copy.requires_grad
