import errno
import time

import pytest

from sweeps.store import patience
from sweeps.store.patience import StoreAwayError, may_pass, patiently, pauses


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (StoreAwayError("store s3://bucket: no route to host"), True),
        (OSError(errno.ESTALE, "stale file handle"), True),
        (OSError(errno.ENOSPC, "no space left"), False),
        (PermissionError(errno.EACCES, "permission denied"), False),
        (FileNotFoundError(errno.ENOENT, "no such file"), False),
        (OSError("image file is truncated"), False),
    ],
)
def test_error_passes_where_waiting_can_mend_it(error: OSError, passes: bool) -> None:
    assert may_pass(error) == passes


def test_pauses_grow_and_end() -> None:
    found = list(pauses())
    assert found[:5] == [1.0, 2.0, 4.0, 8.0, 15.0]
    assert patience.PATIENCE_S <= sum(found) < patience.PATIENCE_S + patience.LONGEST_PAUSE_S


def test_patience_outlives_an_outage_and_not_a_lasting_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.01)
    failures = [OSError(errno.EIO, "away"), OSError(errno.EIO, "away")]

    def read() -> str:
        if failures:
            raise failures.pop()
        return "content"

    assert patiently(read) == "content"
    failures = [OSError(errno.ENOSPC, "full")]
    with pytest.raises(OSError, match="full"):
        patiently(read)


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(patience, "PATIENCE_S", 0.1)
    start = time.monotonic()

    def read() -> str:
        raise OSError(errno.EIO, "away")

    with pytest.raises(OSError, match="away"):
        patiently(read)
    assert 0.1 <= time.monotonic() - start < 5
