"""Fixtures that all tests share: the embedded data set, small, drawn once."""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from processes import hear_signals
from small import SMALL
from tiers import MARKERS, tiers

from occse.artifacts.execute import execute
from occse.pipeline import Node, Pipeline, override, plan, profile

# `pytest -m gpu` also runs where occse is installed without the platform: tests that import Ray are
# not collected there.
HAS_PLATFORM = find_spec("ray") is not None
collect_ignore = [] if HAS_PLATFORM else ["sweeps", "analysis", "benchmarks"]
collect_ignore_glob = [] if HAS_PLATFORM else ["test_*.py"]
if find_spec("pycocotools") is None:
    data = "occse/data"
    collect_ignore += [f"{data}/layouts/test_coco.py", f"{data}/layouts/test_coco_lists.py"]
    # It draws the tree of test_coco.
    collect_ignore.append(f"{data}/test_data_check.py")


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers of the tiers known."""
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its tiers, before `-m` selects among them."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        for name in tiers(item.path.stem, getattr(item, "originalname", item.name), fixtures):
            item.add_marker(name)


hear_signals()


@pytest.fixture(scope="session", autouse=True)
def threads() -> None:
    """Compute on one thread, or on OCCSE_TEST_THREADS: no numeric test may depend on the number."""
    torch.set_num_threads(int(os.environ.get("OCCSE_TEST_THREADS", "1")))


@pytest.fixture(scope="session", autouse=True)
def node_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The place of the user's cache folder; processes that tests start inherit it."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["OCCSE_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def small_pipeline() -> Pipeline:
    """The embedded profile with so few images that a stage takes a second."""
    return override(Pipeline(), profile("embedded") | SMALL)


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory, small_pipeline: Pipeline) -> Path:
    """A store in which every stage of `small_pipeline` has run."""
    root = tmp_path_factory.mktemp("store")
    for node in plan(small_pipeline).values():
        execute(node, root=root)
    return root


@pytest.fixture(scope="module")
def own_store(small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `small_store` to add to; others count what the original has."""
    root = tmp_path_factory.mktemp("own") / "store"
    shutil.copytree(small_store, root)
    return root


@pytest.fixture
def small_node(small_pipeline: Pipeline) -> dict[str, Node]:
    """The plan of `small_pipeline`, by field."""
    return plan(small_pipeline)
