"""Node types of a cluster that can grow: the machines that its autoscaler may start."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import yaml

from sweeps.cluster.policy import Amounts, fits
from sweeps.text import part


@dataclass(frozen=True, kw_only=True)
class NodeType:
    """Kind of machine that the autoscaler may start.

    Attributes:
        name: in the cluster's file.
        resources: of one machine, by Ray's names; without "CPU" where Ray finds them out only when
            the machine is there.
        most: how many of them there may be.
    """

    name: str
    resources: Amounts
    most: int

    def describe(self) -> str:
        """Return name and size for people."""
        return f"{self.name} ({describe_amounts(self.resources)})"


def refuse_unmeetable(
    needs: Mapping[str, Iterable[Amounts]],
    types: Sequence[NodeType],
    machines: Sequence[Amounts],
) -> None:
    """Refuse stages that neither a node type nor a machine that is there could ever take.

    Args:
        needs: what stages ask for, by their field.
        types: of the cluster; nothing is refused where they are not known.
        machines: those that are alive.

    Raises:
        ValueError: there are such stages; the message has the sizes of the types.
    """
    # A type of unknown size may be large enough.
    if not types or any("CPU" not in kind.resources for kind in types):
        return
    sizes = [kind.resources for kind in types if kind.most] + list(machines)
    lines = []
    for field, amounts in needs.items():
        for asked in amounts:
            if not any(fits(asked, size) for size in sizes):
                line = f"resources: {field} asks for {describe_amounts(asked)} on one machine"
                lines.append(line)
    if lines:
        known = ", ".join(kind.describe() for kind in types if kind.most)
        expected = f"expected at most what one node type of the cluster has: {known or 'none'}"
        raise ValueError("\n".join([*dict.fromkeys(lines), expected]))


def describe_amounts(amounts: Amounts) -> str:
    """Return CPUs and GPUs for people, such as "8 CPUs, 1 GPU"."""
    parts = [part(amounts[name], name) for name in ("CPU", "GPU") if amounts.get(name)]
    return ", ".join(parts) or "no CPU"


def types_of(text: str) -> list[NodeType]:
    """Return the node types of a cluster's file, without that of the head."""
    config = yaml.safe_load(text)
    return [
        NodeType(
            name=name,
            resources={key: float(amount) for key, amount in kind.get("resources", {}).items()},
            # Ray's default is the limit of the whole cluster.
            most=int(kind.get("max_workers", config.get("max_workers", 0))),
        )
        for name, kind in config["available_node_types"].items()
        if name != config.get("head_node_type")
    ]
