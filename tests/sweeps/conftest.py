import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import sweeps  # noqa: F401 - before Ray, which reads its environment when it is imported


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A real Ray cluster of two CPUs on this machine, whose workers know the probe stage."""
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    setup = {
        "env_vars": {"PYTHONPATH": str(Path(__file__).parent)},
        "worker_process_setup_hook": "probe_setup.setup",
    }
    ray.init(
        address="local",
        namespace="occse",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=200 << 20,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env=setup,
    )
    yield
    ray.shutdown()
