"""The metrics of all shows as one text."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from fleet.metrics import merge
from streaming.page.metrics import to_prometheus

SHOWS = [
    {"name": "lobby", "tenant": "acme", "state": "on air", "starts": 3},
    {"name": "hall", "tenant": "", "state": "waits for a machine", "starts": 0},
]
NODES = [{"name": "n1", "is_alive": True, "shows": 1}, {"name": "n2", "is_alive": False, "shows": 0}]


def families(**stats: Any) -> list[Any]:
    """Return the metrics of a show's page, as the gateway reads them."""
    return list(text_string_to_metric_families(to_prometheus({"title": "a show", **stats}).decode()))


def samples(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return name and labels -> value; each of them is there once."""
    found = [
        ((sample.name, frozenset(sample.labels.items())), sample.value)
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    ]
    assert len(found) == len(dict(found))
    return dict(found)


def test_every_metric_of_a_show_has_its_name() -> None:
    text = merge({"lobby": families(frames=100, fps=25.0), "hall": families(frames=7, fps=30.0)}, SHOWS, NODES)
    found = samples(text)
    assert found["everframe_frames_total", frozenset({("show", "lobby")})] == 100
    assert found["everframe_frames_total", frozenset({("show", "hall")})] == 7
    assert found["everframe_fps", frozenset({("show", "lobby")})] == 25
    assert found["everframe_frame_seconds", frozenset({("show", "hall"), ("quantile", "0.99")})] == 0
    assert text.count(b"# TYPE everframe_frames_total counter\n") == 1


def test_the_fleet_has_its_own() -> None:
    found = samples(merge({}, SHOWS, NODES))
    assert found == {
        ("everframe_fleet_show_state", frozenset({("show", "lobby"), ("tenant", "acme"), ("state", "on air")})): 1,
        (
            "everframe_fleet_show_state",
            frozenset({("show", "hall"), ("tenant", ""), ("state", "waits for a machine")}),
        ): 1,
        ("everframe_fleet_show_starts", frozenset({("show", "lobby"), ("tenant", "acme")})): 3,
        ("everframe_fleet_show_starts", frozenset({("show", "hall"), ("tenant", "")})): 0,
        ("everframe_fleet_node_shows", frozenset({("node", "n1")})): 1,
    }
