"""Cost of a hit in the store, and of the digests of a large model; the same on an object
store.

A hit is what a sweep asks of every stage that it does not run: read the manifest, compare it with
what is planned. The alternative on a folder is to look whether the file exists, which would take an
artifact of another configuration. The object store is moto's S3 server on this machine: its times
say how many requests there are, not what a real one takes, and it answers one request at a time, so
that reading several at once gains nothing here.

Run: python tests/benchmarks/bench_store.py
"""

import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import boto3
from moto.server import ThreadedMotoServer

from occse.artifacts.checksums import damage
from occse.artifacts.execute import find
from occse.pipeline import Node
from occse.stage import Context, Stage, fingerprint
from sweeps.store.store import Store

MODEL_BYTES = 400 << 20
NUM_MADE, NUM_MISSING = 100, 1000


class Model(Stage):
    """Leaves a file as large as a ResNet-38's weights and optimizer."""

    size: int = MODEL_BYTES

    def run(self, ctx: Context) -> dict[str, float]:
        block = os.urandom(1 << 20)
        with (ctx.output / "model.safetensors").open("wb") as file:
            for _ in range(self.size >> 20):
                file.write(block)
        return {"loss": 0.1}


def node_of(stage: Stage) -> Node:
    return Node(field="oc", stage=stage, inputs={}, fingerprint=fingerprint(stage, {}))


def milliseconds(run: Callable[[], object], *, repeats: int = 200) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e3 * median(times)


def on_a_folder(root: Path) -> None:
    store, node = Store(root), node_of(Model())
    start = time.perf_counter()
    store.execute(node)
    made = time.perf_counter() - start
    hit = milliseconds(lambda: store.manifest(node))
    exists = milliseconds((root / node.kind / node.fingerprint / "manifest.json").exists)
    print(
        f"folder: hit {hit:.2f} ms, {hit / exists:.0f} times "
        f"as long as to look whether the file is there"
    )
    print(f"folder: presence {milliseconds(lambda: node in store):.2f} ms")
    folder, seal = root / node.kind / node.fingerprint, store.manifest(node).files
    start = time.perf_counter()
    assert damage(folder, seal) is None
    first = time.perf_counter() - start
    again = milliseconds(lambda: find(root, node))
    plain = milliseconds(
        lambda: hashlib.file_digest((folder / "model.safetensors").open("rb"), "sha256"), repeats=3
    )
    print(
        f"a model of {MODEL_BYTES >> 20} MB: written and sealed in {made:.2f} s; "
        f"verified at its first use in "
        f"{first:.2f} s (SHA-256 alone {plain / 1e3:.2f} s), later in {again:.2f} ms"
    )


def on_an_object_store(url: str) -> None:
    store, node = Store(url), node_of(Model(size=64 << 20))
    store.execute(node)
    print(f"S3 (moto): hit {milliseconds(lambda: store.manifest(node), repeats=50):.1f} ms")
    print(
        f"S3 (moto): input that was fetched before "
        f"{milliseconds(lambda: store.folder(node), repeats=50):.2f} ms"
    )
    made = [node_of(Model(size=number)) for number in range(NUM_MADE)]
    missing = [node_of(Model(size=-number)) for number in range(1, NUM_MISSING + 1)]
    for each in made:
        store.execute(each)
    for what, nodes in (("all there", made), ("none there", missing)):
        together = milliseconds(partial(store.present, nodes), repeats=3)
        singly = milliseconds(lambda nodes=nodes: [each in store for each in nodes], repeats=3)
        print(
            f"S3 (moto): presence of {len(nodes)} artifacts, {what}: {together:.0f} ms "
            f"by one listing, "
            f"{singly / together:.1f} times as long one by one"
        )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["OCCSE_CACHE"] = f"{folder}/cache"
        on_a_folder(Path(folder) / "store")
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line per request
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        os.environ.update(
            AWS_ACCESS_KEY_ID="bench", AWS_SECRET_ACCESS_KEY="bench", AWS_DEFAULT_REGION="us-east-1"
        )
        os.environ["AWS_ENDPOINT_URL"] = "http://{}:{}".format(*server.get_host_and_port())
        boto3.client("s3").create_bucket(Bucket="bucket")
        on_an_object_store("s3://bucket/store")
        server.stop()


if __name__ == "__main__":
    main()
