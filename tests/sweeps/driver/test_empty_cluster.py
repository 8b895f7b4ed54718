"""A cluster of which only the head is there, as right after `ray up`."""

from pathlib import Path

import pytest
from nodes import Nodes
from probe_stages import Probe, executions, make_trial
from sweeping import sweep_probes

from sweeps.spec.model import Spec

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


def test_head_without_cpus_runs_no_stage_and_names_the_option(nodes: Nodes, tmp_path: Path) -> None:
    spec = Spec(name="empty", question="Where to?", baseline={})
    with pytest.raises(ValueError, match=r"expected a cluster with CPUs .* --autoscaling"):
        sweep_probes(spec, [make_trial(0, data=Probe(label="data"))], tmp_path)
    assert not executions(tmp_path / "store")
    nodes.add(num_cpus=1)
    assert sweep_probes(spec, [make_trial(0, data=Probe(label="data"))], tmp_path).well
