"""The metrics of all shows of a fleet for Prometheus: those of each show, with its name as a label, and the fleet's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streaming.page.metrics import CONTENT_TYPE

__all__ = ["CONTENT_TYPE", "merge"]


def merge(
    families: Mapping[str, Sequence[Metric]], shows: Sequence[Mapping[str, Any]], nodes: Sequence[Mapping[str, Any]]
) -> bytes:
    """Return the metrics in Prometheus' text format.

    Args:
        families: name of a show -> its metrics.
        shows: as `Director.shows` returns them.
        nodes: as `Director.nodes` returns them.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Merged(families, shows, nodes))
    text: bytes = generate_latest(registry)
    return text


class _Merged(Collector):
    def __init__(
        self,
        families: Mapping[str, Sequence[Metric]],
        shows: Sequence[Mapping[str, Any]],
        nodes: Sequence[Mapping[str, Any]],
    ) -> None:
        self._families, self._shows, self._nodes = families, shows, nodes

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        states = GaugeMetricFamily(
            "everframe_fleet_show_state", "1 for the state of a show.", labels=["show", "tenant", "state"]
        )
        starts = GaugeMetricFamily(
            "everframe_fleet_show_starts", "Processes that have run a show.", labels=["show", "tenant"]
        )
        for show in self._shows:
            states.add_metric([show["name"], show["tenant"], show["state"]], 1)
            starts.add_metric([show["name"], show["tenant"]], show["starts"])
        on_node = GaugeMetricFamily("everframe_fleet_node_shows", "Shows on a machine.", labels=["node"])
        for node in self._nodes:
            if node["is_alive"]:
                on_node.add_metric([node["name"]], node["shows"])
        yield from (states, starts, on_node)
        merged: dict[str, Metric] = {}
        for name, found in self._families.items():
            for family in found:
                whole = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    whole.add_sample(sample.name, {**sample.labels, "show": name}, sample.value)
        yield from merged.values()
