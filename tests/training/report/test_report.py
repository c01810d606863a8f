from __future__ import annotations

import json
import math
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from training.report.report import Measure, write_report

ORDER = {
    "task": "order",
    "name": "accuracy",
    "value": 0.449,
    "chance": 1 / 12,
    "baseline": 0.21,
    "baseline_name": "shortest path of pixel differences",
    "unit": "",
    "better": "higher",
}
FLOW = {
    "task": "flow",
    "name": "endpoint error",
    "value": 1.26,
    "chance": None,
    "baseline": 1.62,
    "baseline_name": "no motion",
    "unit": "px",
    "better": "lower",
}


class Page(HTMLParser):
    """What a page refers to and says; every element has to be closed in its turn."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.text = ""
        self.alts: list[str] = []
        self._open: list[str] = []
        self._element = ""
        self.feed(path.read_text(encoding="utf-8"))
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._element = tag
        if tag not in ("meta", "img", "source"):
            self._open.append(tag)
        for key, value in attributes:
            assert value is not None, (tag, key)
            if key in ("src", "srcset", "href"):
                self.links.append(unquote(value))
            if key == "alt":
                self.alts.append(value)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text += f"{data} "

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


def write_lines(path: Path, entries: Iterable[dict[str, Any]], tail: str = "") -> None:
    path.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries) + tail, encoding="utf-8")


def heldout(iteration: int, *measures: dict[str, Any], stage: str = "pretrain") -> dict[str, Any]:
    return {"stage": stage, "iteration": iteration, "measures": list(measures)}


def metrics(iterations: Iterable[int], stage: str = "pretrain", **values: float) -> list[dict[str, Any]]:
    return [{"stage": stage, "iteration": n, **values} for n in iterations]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of one task with two figures held out twice."""
    folder = tmp_path / "a run"
    folder.mkdir()
    rng = np.random.default_rng(0)
    entries = [
        {
            "stage": "pretrain",
            "iteration": n,
            "order/loss": float(rng.random()),
            "loss": 9 / n,
        }
        for n in range(10, 810, 10)
    ]
    write_lines(folder / "metrics.jsonl", entries)
    write_lines(folder / "heldout.jsonl", [heldout(400, {**ORDER, "value": 0.2}), heldout(800, ORDER, FLOW)])
    return folder


@pytest.fixture
def blank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots without content, for tests that look at the page only: drawing takes most of the time."""
    monkeypatch.setattr("training.report.report._draw", lambda *arguments, **options: b"")


def test_a_page_tells_the_latest_measures_and_shows_every_plot(run: Path) -> None:
    path = write_report(run)
    assert path == run / "report.html"
    page = Page(path)
    assert "Pretraining at iteration 800. On held-out footage 2 of 2 measures beat what they are compared with." in (
        page.words
    )
    assert "order accuracy higher is better 0.449 0.083 0.210 shortest path of pixel differences ▲ beats baseline" in (
        page.words
    )
    assert "flow endpoint error lower is better 1.26 px – 1.62 px no motion ▲ beats baseline" in page.words  # noqa: RUF001
    names = {"pretrain-order-loss", "pretrain-order-accuracy-heldout", "pretrain-flow-endpoint-error-heldout"}
    names.add("pretrain-loss")
    assert set(page.links) == {f"report/{name}-{theme}.png" for name in names for theme in ("light", "dark")}
    for link in page.links:
        with Image.open(run / link) as image:
            assert image.size == (864, 528)
            assert np.asarray(image.convert("RGBA"))[..., 3].max() == 255
    assert "accuracy over iterations, 0.449 at 800" in page.alts
    assert not list(run.rglob("*.partial"))


def test_nothing_comes_from_elsewhere_and_the_page_is_the_same_each_time(run: Path) -> None:
    first = {path: path.read_bytes() for path in (write_report(run), *run.glob("report/*.png"))}
    second = {path: path.read_bytes() for path in (write_report(run), *run.glob("report/*.png"))}
    assert first == second
    text = (run / "report.html").read_text()
    for word in ("http:", "https:", "<script", "<link", "@import", "url("):
        assert word not in text


def test_a_run_without_metrics_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no .*metrics.jsonl: train first"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_empty_metrics_give_an_empty_page(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("")
    page = Page(write_report(tmp_path))
    assert "Nothing logged yet." in page.words
    assert page.links == []


@pytest.mark.usefixtures("blank")
def test_a_line_cut_while_written_is_passed_over_and_damage_is_told(run: Path) -> None:
    lines = metrics([10, 20], loss=1.0)
    write_lines(run / "metrics.jsonl", lines, '{"stage": "pretrain", "iterat')
    write_lines(run / "heldout.jsonl", [heldout(20, ORDER)], '{"stage"')
    assert "damaged" not in Page(write_report(run)).words
    write_lines(
        run / "metrics.jsonl", lines, '{"stage": "pre{"stage"\n[]\n{"stage": "pretrain", "iteration": 1e999}\n\n'
    )
    (run / "run.json").write_text('{"name": ')
    page = Page(write_report(run))
    assert "metrics.jsonl has 3 damaged lines, left out here." in page.words
    assert "run.json could not be read and was left out." in page.words
    assert "at iteration 20" in page.words


@pytest.mark.usefixtures("blank")
def test_what_a_resumed_run_did_again_counts_once(run: Path) -> None:
    write_lines(run / "metrics.jsonl", metrics([10, 20, 30, 40], loss=1.0) + metrics([30], loss=2.0))
    write_lines(run / "heldout.jsonl", [heldout(20, ORDER), heldout(40, {**ORDER, "value": 0.9}), heldout(30, ORDER)])
    page = Page(write_report(run))
    assert "Pretraining at iteration 30." in page.words
    assert "accuracy over iterations, 0.449 at 30" in page.alts
    assert "loss over iterations, 2.00 at 30" in page.alts


def test_everything_is_escaped(run: Path) -> None:
    evil = '<script>alert("1")</script> & {sections} $x$'
    record = {**ORDER, "task": evil, "name": evil, "baseline_name": evil, "unit": evil}
    write_lines(run / "metrics.jsonl", metrics([10, 20], **{f"{evil.replace('/', '')}/a loss": 1.0, f"{evil}": 2.0}))
    write_lines(run / "heldout.jsonl", [heldout(20, record)])
    (run / "run.json").write_text(json.dumps({"name": evil, "description": evil, evil: evil, "t": {evil: [evil]}}))
    pictures = run / "report" / "pictures"
    pictures.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(pictures / 'a"<b>&#?.png')
    (pictures / "captions.json").write_text(json.dumps({'a"<b>&#?.png': evil}))
    path = write_report(run)
    assert "<script" not in path.read_text()
    page = Page(path)
    assert page.words.count('<script>alert("1")</script> & {sections}') > 8
    assert all((run / link).is_file() for link in page.links)


@pytest.mark.usefixtures("blank")
def test_two_tasks_whose_names_differ_in_signs_only_keep_their_plots(run: Path) -> None:
    write_lines(run / "metrics.jsonl", metrics([10, 20], **{"a b/loss": 1.0, "a-b/loss": 2.0}))
    (run / "heldout.jsonl").unlink()
    page = Page(write_report(run))
    assert len(set(page.links)) == 4


@pytest.mark.usefixtures("blank")
def test_pictures_come_in_the_order_of_their_captions(run: Path) -> None:
    pictures = run / "report" / "pictures"
    pictures.mkdir(parents=True)
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (4, 4)).save(pictures / name)
    (pictures / "captions.json").write_text(json.dumps({"c.png": "Third.", "absent.png": "None.", "a.png": "First."}))
    page = Page(write_report(run))
    shown = [link for link in page.links if "pictures" in link]
    assert shown == [f"report/pictures/{name}.png" for name in "cab"]
    assert "Third. First." in page.words
    assert "None." not in page.words


@pytest.mark.usefixtures("blank")
def test_the_run_and_the_probe_are_shown(run: Path) -> None:
    facts = {"name": "Mine", "description": "About it.", "tasks": {"order": {"weight": 1.0, "clips": 12}}, "seed": 7}
    facts |= {"perceptual": None, "sizes": [1, 2], "deep": {"a": {"b": {"c": 1}}}, "nothing": {}}
    (run / "run.json").write_text(json.dumps(facts))
    (run / "probe.json").write_text(json.dumps({"seed": 3, "measures": [{**FLOW, "task": "scene", "value": 2.0}]}))
    page = Page(write_report(run))
    assert page.words.startswith("Mine Mine About it. Pretraining")
    assert "no motion ▼ does not beat baseline seed 3" in page.words
    assert (
        'tasks order: weight 1.0, clips 12 seed 7 perceptual none sizes 1, 2 deep a: b: {"c": 1} nothing none'
        in page.words
    )


@pytest.mark.usefixtures("blank")
def test_both_stages_have_their_own_sections(run: Path) -> None:
    both = metrics([10, 20], loss=1.0, **{"order/loss": 1.0}) + metrics(
        [5], "finetune", loss=2.0, **{"order/loss": 1.0}
    )
    write_lines(run / "metrics.jsonl", both)
    write_lines(
        run / "heldout.jsonl", [heldout(10, FLOW, ORDER), heldout(20, ORDER), heldout(5, ORDER, stage="finetune")]
    )
    page = Page(write_report(run))
    for text in ("Held out, pretraining", "Held out, fine-tuning", "lower is better, at iteration 10"):
        assert text in page.words
    assert "report/finetune-order-loss-dark.png" in page.links


@pytest.mark.usefixtures("blank")
def test_training_and_held_out_values_of_one_measure_share_a_plot(run: Path) -> None:
    write_lines(run / "metrics.jsonl", metrics([10, 20], **{"order/accuracy": 0.5, "order/spread": 1.0}))
    page = Page(write_report(run))
    assert "report/pretrain-order-accuracy-heldout-light.png" in page.links
    assert "report/pretrain-order-accuracy-light.png" not in page.links
    assert "report/pretrain-order-spread-light.png" in page.links


def test_values_that_are_no_numbers_leave_gaps(run: Path) -> None:
    write_lines(run / "metrics.jsonl", metrics([10, 20], loss=math.nan) + metrics([30], loss=0.00001))
    records = [{**ORDER, "value": math.nan}, {**FLOW, "baseline": math.inf}, {"task": "none"}, "junk"]
    write_lines(run / "heldout.jsonl", [heldout(30, *records)])
    page = Page(write_report(run))
    assert "loss over iterations, 1.0e-05 at 30" in page.alts
    assert "accuracy higher is better –" in page.words  # noqa: RUF001
    assert "measures beat" not in page.words


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, ("beats baseline", True)),
        ({"value": 0.21}, ("does not beat baseline", False)),
        ({"value": 0.08}, ("no better than chance", False)),
        ({"baseline": None}, ("beats chance", True)),
        ({"chance": None, "baseline": None}, None),
        ({"better": "lower", "chance": None}, ("does not beat baseline", False)),
        ({"better": "lower", "chance": 1, "baseline": 0.5}, ("beats baseline", True)),
        ({"value": None}, None),
    ],
)
def test_verdicts_follow_the_direction_of_a_measure(changes: dict[str, Any], verdict: tuple[str, bool] | None) -> None:
    measure = Measure.read({**ORDER, **changes})
    assert measure is not None
    assert measure.verdict() == verdict


def test_plots_leave_nothing_behind(run: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    write_report(run)
    assert dict(matplotlib.rcParams) == before
