import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from probe_sweep import PROBES

import sweeps  # noqa: F401 - before Ray, which reads its environment when it is imported

if TYPE_CHECKING:
    from nodes import Nodes


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A real Ray cluster of two CPUs on this machine, whose workers know the probe stage."""
    import ray

    from sweeps.cluster.connection import OBJECT_STORE_BYTES, start_ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    start_ray(
        print,
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        runtime_env=PROBES,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The URL of a bucket on a real S3 server on this machine; the environment has its address, as
    a user's has.
    """
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    mine = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in mine}
    os.environ.update(mine)
    boto3.client("s3").create_bucket(Bucket="bucket")
    yield "s3://bucket"
    server.stop()
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture(scope="module")
def nodes() -> "Iterator[Nodes]":
    """A real Ray cluster of several nodes on this machine that lives on when a driver leaves it;
    connected.
    """
    from nodes import Nodes

    cluster = Nodes()
    yield cluster
    cluster.shutdown()
