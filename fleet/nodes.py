"""The machines of a Ray cluster."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

import ray

_HEAD = "node:__internal_head__"
_DRAIN_S = 3600  # after which Ray itself ends what is left on a drained machine


@dataclass(frozen=True)
class Node:
    """One machine.

    Args:
        name: Ray's name of it.
        address: under which the others reach it.
        is_alive: whether it answers.
        is_head: whether it is the head.
        is_draining: whether it takes no further shows.
        cpus, gpus: that it has.
    """

    name: str
    address: str
    is_alive: bool
    is_head: bool
    is_draining: bool
    cpus: float
    gpus: float

    def to_json(self) -> dict[str, Any]:
        """Return its fields."""
        return asdict(self)


def read_nodes(drained: Collection[str] = ()) -> tuple[Node, ...]:
    """Return the machines of the cluster that this process is connected to, also those that are gone.

    Args:
        drained: names of those that take no further shows.
    """
    found = []
    for node in ray.nodes():
        has = node["Resources"]
        name = node["NodeID"]
        found.append(
            Node(
                name,
                node["NodeManagerAddress"],
                bool(node["Alive"]),
                _HEAD in has,
                name in drained,
                float(has.get("CPU", 0)),
                float(has.get("GPU", 0)),
            )
        )
    return tuple(found)


def drain(name: str) -> None:
    """Let Ray place nothing on a machine any more.

    Raises:
        ValueError: Ray refuses it.
    """
    from ray.core.generated import autoscaler_pb2

    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline_ms = (int(time.time()) + _DRAIN_S) * 1000
    client = ray._raylet.GcsClient(address=ray.get_runtime_context().gcs_address)
    is_accepted, why = client.drain_node(name, reason, "drained by everframe fleet", deadline_ms)
    if not is_accepted:
        raise ValueError(f"Ray does not drain {name}: {why}")
