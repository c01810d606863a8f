"""The show's metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def to_prometheus(about: Mapping[str, Any]) -> bytes:
    """Return the metrics in Prometheus' text format.

    Args:
        about: the content of the page's `/stats`.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(about))
    text: bytes = generate_latest(registry)
    return text


class _Snapshot(Collector):
    """The metrics of one moment."""

    def __init__(self, about: Mapping[str, Any]) -> None:
        self._about = about

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        about = self._about
        size = {"width": str(about.get("width", "")), "height": str(about.get("height", ""))}
        info = {"title": str(about.get("title", "")), "engine": str(about.get("engine", "")), **size}
        yield InfoMetricFamily("everframe_show", "Title and size of the show, and its engine.", info)
        for key, name, what in (
            ("frames", "frames", "Frames shown."),
            ("late", "late_frames", "Frames shown more than half an interval late."),
            ("dropped", "dropped_slots", "Slots without a frame, as the engine was too slow."),
            ("filled", "filled_slots", "Slots in which the last frame was repeated."),
        ):
            yield CounterMetricFamily(f"everframe_{name}", what, value=about.get(key, 0))
        yield GaugeMetricFamily("everframe_uptime_seconds", "Length of the show.", value=about.get("seconds", 0))
        yield GaugeMetricFamily("everframe_fps", "Frames per second, last ten seconds.", value=about.get("fps", 0))
        yield GaugeMetricFamily(
            "everframe_wanted_fps", "Requested frames per second.", value=about.get("wanted_fps", 0)
        )
        times = GaugeMetricFamily(
            "everframe_frame_seconds", "Time of the engine per frame, last ten seconds.", labels=["quantile"]
        )
        for quantile, key in (("0.5", "p50_ms"), ("0.95", "p95_ms"), ("0.99", "p99_ms"), ("1", "worst_ms")):
            times.add_metric([quantile], about.get(key, 0) / 1000)
        yield times
        if (painter := about.get("painter")) is not None:
            yield CounterMetricFamily("everframe_pictures_painted", "Pictures painted.", value=painter["painted"])
            yield CounterMetricFamily("everframe_pictures_failed", "Pictures not painted.", value=painter["failed"])
            yield GaugeMetricFamily(
                "everframe_painting_seconds",
                "For how long a picture is being painted; 0 if none is.",
                value=painter["seconds"],
            )
        yield from self._sinks()

    def _sinks(self) -> Iterator[Metric]:
        written = CounterMetricFamily("everframe_sink_frames", "Frames that a sink delivered.", labels=["sink"])
        dropped = CounterMetricFamily("everframe_sink_dropped", "Frames that a sink dropped.", labels=["sink"])
        errors = CounterMetricFamily("everframe_sink_errors", "Errors of a sink.", labels=["sink"])
        reconnects = CounterMetricFamily("everframe_sink_reconnects", "Reconnects of a stream.", labels=["sink"])
        bitrate = GaugeMetricFamily(
            "everframe_sink_bits_per_second", "Bit rate of a sink over the last seconds.", labels=["sink"]
        )
        is_up = GaugeMetricFamily("everframe_sink_up", "Whether a sink is on air.", labels=["sink"])
        for sink in self._about.get("sinks", ()):
            # A sink's name never holds a key. A path may hold bytes that are not UTF-8.
            label = [sink["name"].encode(errors="replace").decode()]
            written.add_metric(label, sink["written"])
            dropped.add_metric(label, sink["dropped"])
            errors.add_metric(label, sink["errors"])
            reconnects.add_metric(label, sink["reconnects"])
            if sink["bitrate"] is not None:
                bitrate.add_metric(label, sink["bitrate"])
            is_up.add_metric(label, float(sink["is_up"]))
        yield from (written, dropped, errors, reconnects, bitrate, is_up)
