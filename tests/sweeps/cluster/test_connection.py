import socket
import time
from collections.abc import Iterator

import pytest

from sweeps.cluster.connection import ANSWER_S, check_address


@pytest.fixture
def silent() -> Iterator[str]:
    """A port of this machine on which something listens that says nothing."""
    with socket.create_server(("0.0.0.0", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "silent"])
def test_address_without_a_cluster_is_refused_soon_and_says_what_to_do(
    address: str, request: pytest.FixtureRequest
) -> None:
    address = request.getfixturevalue("silent") if address == "silent" else address
    start = time.monotonic()
    with pytest.raises(ConnectionError) as found:
        check_address(address)
    assert time.monotonic() - start < 2 * ANSWER_S
    first, second = str(found.value).splitlines()[:2]
    assert first.startswith(f"--address {address}: expected a running Ray cluster; start one")
    assert second
