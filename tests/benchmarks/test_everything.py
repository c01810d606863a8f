"""The tables of docs/results.md are made from docs/measured/; missing results are reported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks.everything import ENTRIES, ROOT, Measurement, measure, render

PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
RESULT = {
    "benchmark": "soak",
    "bundle": "mine",
    "engine": "fake",
    "precision": "fp32",
    "windows": [{"frame": 1234}],
    "checks": {"memory": {"passed": False, "what": "it grew"}},
    "machine": {"cpu": "a CPU", "cores": 2, "flags": ["avx2", "amx_bf16"], "load": 0.1, "commit": "0123456789"},
    "command": "python -m benchmarks soak bundles/mine",
}


def test_the_tables_are_those_of_the_measurements() -> None:
    assert render(PAGE, ROOT / "docs" / "measured") == PAGE


def test_every_measurement_has_its_table() -> None:
    measured = {file.stem for file in (ROOT / "docs" / "measured").glob("*.json")}
    assert measured <= {entry.name for entry in ENTRIES}
    for name in measured:
        assert PAGE.count(f"<!-- measured: {name} -->") == 1


def test_a_table_is_filled_in_at_its_mark(tmp_path: Path) -> None:
    (tmp_path / "soak-mine.json").write_text(json.dumps(RESULT))
    page = "before\n<!-- measured: soak-mine -->\nold\n<!-- end -->\nafter\n"
    filled = render(page, tmp_path)
    assert filled.startswith("before\n<!-- measured: soak-mine -->\n\n`python -m benchmarks soak bundles/mine`\n\n")
    assert "| memory | **failed** | it grew |" in filled
    assert "a CPU, 2 cores, amx_bf16; load 0.1; commit 0123456." in filled
    assert filled.endswith("\n<!-- end -->\nafter\n")
    assert "old" not in filled
    assert render(filled, tmp_path) == filled


@pytest.mark.parametrize("content", [None, "{", "[]", '{"benchmark": "nothing"}', '{"benchmark": "soak"}'])
def test_a_missing_or_damaged_result_is_reported(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=r"a\.json is missing or damaged .*--only a"):
        render("<!-- measured: a -->\n<!-- end -->\n", tmp_path)


def test_what_needs_a_run_is_skipped_without_it(tmp_path: Path) -> None:
    entry = Measurement("scale-mine", ("scale", "runs/nowhere"), needs="runs/nowhere")
    assert measure(entry, tmp_path) == "skipped: there is no runs/nowhere"
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["all", "--only", "soak-mine"]) == 2
    assert 'there is no measurement "soak-mine", expected some of' in capsys.readouterr().err
