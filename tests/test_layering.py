"""The arrows of the house: which folder may import which. Read with `ast`, so that lazy imports count too."""

from __future__ import annotations

import ast
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "training": set(),
    "runtime": set(),
    "export": {"training", "runtime"},
    "provenance": {"runtime"},
    "streaming": {"runtime", "provenance"},
    "fleet": {"streaming"},
    "verify": {"runtime", "provenance"},
    "benchmarks": {"runtime", "provenance", "streaming", "fleet", "training", "export", "verify"},
}
# A heavy or optional package is imported inside the one file that needs it, never by the rest of its folder.
ONLY_IN = {
    "torch": ("training/", "export/", "benchmarks/"),
    "cv2": (
        "training/",
        "streaming/inputs/live_input_child.py",
        "streaming/sinks/window_child.py",
        "runtime/clips/alignment.py",
        "benchmarks/quality/seams.py",
        "benchmarks/quality/super_resolution.py",
        "benchmarks/quality/fill.py",
    ),
    "lightning": ("training/", "benchmarks/training/pretraining.py"),
    "array_record": ("training/data/shard_packing.py", "training/data/shard_reader.py"),
    "scenedetect": ("training/data/takes.py",),
    "diffusers": ("export/diffusers/", "benchmarks/diffusion/pipeline.py"),
    "transformers": ("export/diffusers/", "benchmarks/diffusion/pipeline.py"),
    "model2vec": ("training/data/words.py",),
    "tokenizers": ("training/data/words.py", "runtime/prompts/tokenizer.py", "export/tokenizer_files.py"),
    "onnxruntime": (
        "runtime/engines/onnxruntime.py",
        "runtime/engines/onnxruntime_cuda.py",
        "export/parity/engines.py",
        "export/from_onnx/original.py",
        "export/from_onnx/importer.py",
        "export/int8/quantiser.py",
        "export/int8/evaluation.py",
        "benchmarks/",
    ),
    "openvino": (
        "runtime/engines/openvino.py",
        "runtime/engines/openvino_layout.py",
        "runtime/engines/openvino_weights.py",
        "benchmarks/",
    ),
    "aiortc": ("streaming/live/webrtc.py", "streaming/inputs/webrtc_receiver.py"),
    "aioice": ("streaming/live/webrtc.py",),
    "sounddevice": ("streaming/sound/source_child.py",),
    "pyvirtualcam": ("streaming/sinks/webcam_sink.py",),
    "pythonosc": ("streaming/instrument/osc_in.py", "streaming/instrument/osc_out.py", "benchmarks/live/"),
    "mido": ("streaming/instrument/midi.py",),
    "c2pa": ("provenance/c2pa_library.py",),
    "tritonclient": (
        "runtime/engines/triton_connection.py",
        "runtime/engines/triton_model.py",
        "export/triton/config.py",
        "benchmarks/latency/server.py",
    ),
    "grpc": (),
    "cryptography": ("provenance/keys/", "provenance/segments.py"),
    "ray": (
        "fleet/commandline.py",
        "fleet/director.py",
        "fleet/nodes.py",
        "fleet/ray_actors.py",
        "benchmarks/scenarios/fleet.py",
        "training/data/cluster_shards.py",
        "training/cluster.py",
    ),
    "fsspec": ("fleet/state_store.py", "training/data/remote_files.py"),
    "httpx": ("fleet/gateway.py",),
}


@cache
def imported(path: Path) -> set[str]:
    """Return the top-level names that a file imports anywhere."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import; ours are absolute"
            names.add((node.module or "").split(".")[0])
    return names


def sources(folder: str) -> list[Path]:
    """Return every Python file of one of our folders."""
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found, f"{folder} has no Python files: was it moved?"
    return found


@pytest.mark.parametrize("folder", sorted(ALLOWED))
def test_only_the_drawn_arrows_are_imported(folder: str) -> None:
    for path in sources(folder):
        crossed = imported(path) & (set(ALLOWED) - {folder}) - ALLOWED[folder]
        assert not crossed, f"{path.relative_to(ROOT)} imports {sorted(crossed)}"


@pytest.mark.parametrize("package", sorted(ONLY_IN))
def test_heavy_packages_stay_in_their_files(package: str) -> None:
    for folder in ALLOWED:
        for path in sources(folder):
            place = path.relative_to(ROOT).as_posix()
            if package in imported(path):
                assert place.startswith(ONLY_IN[package]), f"{place} imports {package}"


def test_a_forbidden_import_would_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "sneaky.py"
    path.write_text("def later():\n    from streaming import sinks\n    import torch.nn\n")
    assert imported(path) == {"streaming", "torch"}


def test_every_package_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {path.parent.relative_to(ROOT) for folder in ALLOWED for path in (ROOT / folder).rglob("__init__.py")}
    assert sorted(set(listed) - {"training.configs", "everframe_bundles"}) == sorted(
        ".".join(folder.parts) for folder in found
    )
