import pytest

from sweeps.cluster.node_types import refuse_unmeetable, types_of

CLUSTER_FILE = """
max_workers: 5
head_node_type: head
available_node_types:
  head: {resources: {CPU: 0}}
  gpu: {resources: {CPU: 8, GPU: 1}, max_workers: 3}
  cpu: {resources: {CPU: 32}}
"""


def test_stage_that_no_node_type_can_take_is_refused_with_the_sizes_of_the_types() -> None:
    types = types_of(CLUSTER_FILE)
    assert [(kind.name, kind.most) for kind in types] == [("gpu", 3), ("cpu", 5)]
    needs = {"oc": [{"CPU": 4.0, "GPU": 1.0}], "cgnet": [{"CPU": 4.0, "GPU": 2.0}]}
    with pytest.raises(ValueError, match="cgnet asks for 4 CPUs, 2 GPUs") as error:
        refuse_unmeetable(needs, types, [{"CPU": 0.0}])
    assert "oc" not in str(error.value)
    assert str(error.value).endswith("has: gpu (8 CPUs, 1 GPU), cpu (32 CPUs)")
    refuse_unmeetable(needs, types, [{"CPU": 8.0, "GPU": 2.0}])  # a machine that is there
    refuse_unmeetable(needs, [], [])  # types that nobody can tell
    unknown = types_of(CLUSTER_FILE.replace("{resources: {CPU: 32}}", "{}"))
    refuse_unmeetable(needs, unknown, [])
