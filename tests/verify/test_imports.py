"""What `verify` needs: NumPy and PyAV."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.verify.marked_video import TEXT, clip, write

ROOT = Path(__file__).parents[2]
OTHERS = ("onnx", "google.protobuf", "PIL", "cryptography", "c2pa", "openvino", "onnxruntime", "cv2", "torch")


def test_a_mark_is_read_without_other_libraries(tmp_path: Path) -> None:
    file = write(tmp_path / "marked.mp4", clip(480, 272))
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({OTHERS!r}))\n"  # importing them is an error
        f"from verify.command import main; sys.exit(main([{str(file)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0
    assert f"Marked: payload {TEXT}." in done.stdout
    assert "Not read: it needs the extra sign." in done.stdout
