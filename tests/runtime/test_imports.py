"""Importing the runtime imports no accelerator library, framework or extra."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAVY = (
    "torch",
    "cv2",
    "onnxruntime",
    "openvino",
    "matplotlib",
    "PIL",
    "av",
    "rich",
    "tokenizers",
    "training",
    "export",
    "streaming",
)


def test_importing_the_runtime_imports_nothing_heavy() -> None:
    code = f"import sys; from runtime import Generator; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


def test_names_of_the_runtime_are_imported_when_they_are_asked_for() -> None:
    code = (
        "import sys, runtime; assert 'onnx' not in sys.modules\n"
        "print([getattr(runtime, name).__name__ for name in (*runtime.__all__, 'Memory')], hasattr(runtime, 'Nothing'))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    names = ["BundleError", "EngineError", "Generator", "Manifest", "Scene", "Scene"]
    assert done.stdout.strip() == f"{names} False"


def test_running_openvino_sends_no_telemetry(bundle: Path) -> None:
    code = (
        "import sys, threading; from runtime import Generator\n"
        f"with Generator.open({str(bundle)!r}, engine='openvino') as generator: next(generator)\n"
        "print([name for name in sys.modules if 'openvino_telemetry' in name], threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] 1"
    assert done.stderr == ""


def test_every_module_is_short() -> None:
    for file in (ROOT / "runtime").glob("*.py"):
        assert len(file.read_text().splitlines()) <= 300, file
