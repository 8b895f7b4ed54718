"""A sweep whose object store is away for a while: nothing fails, waits for ever, or runs twice.

The outage takes OCCSE_OUTAGE_S seconds (40); by hand it was tried with 300."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import ray
from line import Line
from probe_stages import Link, Probe, executions, make_trial
from sweeping import sweep_probes
from waiting import wait_until

from sweeps.cluster.head import NAMESPACE
from sweeps.cluster.messages import News
from sweeps.spec.model import Spec
from sweeps.spec.trials import Trial
from sweeps.store.store import Store

pytestmark = [
    # in this order: Ray's processes inherit the environment
    pytest.mark.usefixtures("line", "cluster"),
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),  # of MLflow
]
SPEC = Spec(name="outage", question="Does it go on?", baseline={})
OUTAGE_S = float(os.environ.get("OCCSE_OUTAGE_S", "40"))
LABELS = ["cam 0", "cam 1", "cam 2", "data", "oc 0", "oc 1", "oc 2"]


@pytest.fixture(scope="module")
def line(s3: str) -> Iterator[Line]:
    """The line to the S3 server; the environment names its near end."""
    server = urlsplit(os.environ["AWS_ENDPOINT_URL"])
    assert server.port is not None
    with Line(server.port) as line:
        os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{line.port}"
        # The library's own retries take 40 s before the platform's patience begins.
        os.environ["AWS_MAX_ATTEMPTS"] = "1"
        yield line
        os.environ["AWS_ENDPOINT_URL"] = server.geturl()
        del os.environ["AWS_MAX_ATTEMPTS"]


def trial_of(order: int) -> Trial:
    return make_trial(
        order,
        data=Link(label="data", num_steps=20),
        oc=Probe(label=f"oc {order}", upstream=("data",), num_steps=20),
        cam=Link(label=f"cam {order}", upstream=("oc",)),
    )


def news() -> News:
    """Everything that the sweep's scheduler has to tell."""
    (name,) = (
        actor["name"]
        for actor in ray.util.list_named_actors(all_namespaces=True)
        if actor["name"].startswith("scheduler:")
    )
    found: News = ray.get(ray.get_actor(name, namespace=NAMESPACE).news.remote())
    return found


def ended(found: News) -> set[str]:
    return {event.fingerprint for event in found.events}


def test_sweep_outlives_an_object_store_that_is_away_and_runs_nothing_twice(
    s3: str, line: Line, tmp_path: Path
) -> None:
    store = Store(f"{s3}/{tmp_path.name}")
    trials = [trial_of(order) for order in range(3)]
    lines: list[str] = []

    def go_away() -> None:
        wait_until(lambda: "data 0" in executions(store.root))
        line.cut()
        back = time.monotonic() + OUTAGE_S
        while time.monotonic() < back:
            now = news()
            known = {stage.fingerprint for stage in (*now.running, *now.waiting)} | ended(now)
            # every stage that was ever asked for stands somewhere
            assert trials[0].nodes["data"].fingerprint in known
            time.sleep(1)
        line.mend()

    away = threading.Thread(target=go_away)
    away.start()
    summary = sweep_probes(SPEC, trials, tmp_path, store=store, say=lines.append)
    away.join()
    assert summary.well, summary.describe()
    assert sorted(executions(store.root)) == [f"{label} 0" for label in LABELS]
    assert (summary.run, summary.reused) == (7, 0)


def test_stage_whose_lease_cannot_be_taken_waits_and_says_why(
    s3: str, line: Line, tmp_path: Path
) -> None:
    """The case that once hung: a read fails while the scheduler takes the lease."""
    from asking import DONE, ensure, request_of, scheduler_of
    from asking import news as news_of

    store = Store(f"{s3}/{tmp_path.name}")
    scheduler = scheduler_of(store.url)
    request = request_of(Probe(label="late"))
    line.cut()
    ray.get(scheduler.ensure.remote(request, "a trial", 0.5))
    wait_until(lambda: "does not answer" in "".join(_whys(news_of(scheduler))))
    ray.get(scheduler.ensure.remote(request, "a trial", 0.5))
    assert not executions(store.root)
    line.mend()
    assert ensure(scheduler, request) == DONE
    assert executions(store.root) == ["late 0"]


def _whys(found: News) -> list[str]:
    return [stage.why for stage in found.waiting]
