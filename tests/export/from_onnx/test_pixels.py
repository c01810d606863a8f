"""The nodes around an imported model: the same pixels as in PyTorch, and golden runs with live input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import onnxruntime
import pytest
import torch

from export.from_onnx import pixels as import_pixels
from export.from_onnx.importer import ImportOptions, import_model
from export.from_onnx.pixels import GraphFragment, PictureSpec, from_pixels, to_i420, to_picture, to_rgb
from export.parity.checks import available_engines
from runtime import BundleError, Generator
from runtime.bundle.reader import open_bundle, write_manifest
from runtime.golden import check_golden
from tests.export import pixels as reference
from tests.export.from_onnx import foreign

OPSET, IR = 18, 9


def run(graph: GraphFragment, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    model = graph.to_model("test", OPSET, IR).SerializeToString()
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, feeds)


def test_frames_are_bit_identical_to_our_own_export() -> None:
    assert import_pixels.LUMA == reference.LUMA
    picture = np.random.default_rng(0).uniform(-0.1, 1.1, (1, 3, 32, 48)).astype(np.float32)
    graph = GraphFragment()
    graph.add_input("values", "float32", picture.shape)
    to_picture(graph, "values", PictureSpec(picture.shape, "float32", "nchw", "rgb", "0..1"), (32, 48), "picture")
    to_rgb(graph, "picture", "rgb")
    to_i420(graph, "picture", (32, 48), "i420")
    graph.add_output("rgb", "uint8", (1, 32, 48, 3))
    graph.add_output("i420", "uint8", (1, 48, 48))
    rgb, i420 = run(graph, {"values": picture})
    clipped = torch.from_numpy(picture).clamp(0, 1)
    assert np.array_equal(rgb, reference.to_rgb(clipped).numpy())
    assert np.array_equal(i420, reference.to_i420(clipped).numpy())


def test_rgb_rounds_to_the_nearest_level_and_clamps() -> None:
    values = torch.tensor([0.0, 0.4 / 255, 0.6 / 255, 1.0, 1.2, -0.1]).reshape(1, 1, 2, 3).expand(1, 3, 2, 3)
    assert reference.to_rgb(values)[0, :, :, 0].flatten().tolist() == [0, 0, 1, 255, 255, 0]
    assert reference.to_rgb(values).shape == (1, 2, 3, 3)


@pytest.mark.parametrize(
    ("colour", "yuv"),
    [
        # ITU-R BT.709, limited range: black, white, and the primaries to the nearest level.
        ((0.0, 0.0, 0.0), (16, 128, 128)),
        ((1.0, 1.0, 1.0), (235, 128, 128)),
        ((1.0, 0.0, 0.0), (63, 102, 240)),
        ((0.0, 1.0, 0.0), (173, 42, 26)),
        ((0.0, 0.0, 1.0), (32, 240, 118)),
    ],
)
def test_i420_of_plain_colours(colour: tuple[float, ...], yuv: tuple[int, ...]) -> None:
    picture = torch.tensor(colour).reshape(1, 3, 1, 1).expand(1, 3, 8, 10)
    planes = reference.to_i420(picture)[0].numpy()
    assert planes.shape == (12, 10)
    flat = planes.reshape(-1)
    assert set(flat[:80]) == {yuv[0]}
    assert set(flat[80:100]) == {yuv[1]}
    assert set(flat[100:]) == {yuv[2]}


def test_i420_agrees_with_a_library_on_a_smooth_picture() -> None:
    y, x = np.mgrid[0:64, 0:96] / 96.0
    picture = np.stack([x, y, 0.5 + 0.4 * np.sin(6 * x)], axis=-1)
    rgb = (picture * 255 + 0.5).astype(np.uint8)
    ours = reference.to_i420(torch.from_numpy(rgb.astype(np.float32) / 255).permute(2, 0, 1)[None])[0].numpy()
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    theirs = frame.reformat(format="yuv420p", dst_colorspace="ITU709", src_color_range="JPEG", dst_color_range="MPEG")
    difference = np.abs(ours.astype(int) - theirs.to_ndarray().astype(int))
    assert difference.mean() < 0.6
    assert difference.max() <= 3


@pytest.mark.parametrize(
    ("range_", "ends"),
    [
        ("0..1", ([0, 0, 0], [1, 1, 1])),
        ("-1..1", ([-1, -1, -1], [1, 1, 1])),
        ("0..255", ([0, 0, 0], [255, 255, 255])),
        # (0 - mean) / deviation and (1 - mean) / deviation of the usual statistics of ImageNet
        ("imagenet", ([-2.1179, -2.0357, -1.8044], [2.2489, 2.4286, 2.64])),
    ],
)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_black_and_white_become_the_ends_of_the_range(
    range_: str, ends: tuple[list[float], list[float]], layout: str, dtype: str
) -> None:
    shape = (1, 3, 8, 10) if layout == "nchw" else (1, 8, 10, 3)
    live = np.zeros((1, 8, 10, 3), np.uint8)
    live[:, 4:] = 255
    graph = GraphFragment()
    graph.add_input("live", "uint8", live.shape)
    from_pixels(graph, "live", (8, 10), PictureSpec(shape, dtype, layout, "rgb", range_), "out")
    graph.add_output("out", dtype, shape)
    (found,) = run(graph, {"live": live})
    planes = found[0] if layout == "nchw" else found[0].transpose(2, 0, 1)
    assert found.dtype == dtype
    assert np.allclose(planes[:, 0, 0], ends[0], atol=2e-3)
    assert np.allclose(planes[:, 7, 9], ends[1], atol=2e-3)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recurrent model with a live input, imported on every engine of this machine."""
    folder = tmp_path_factory.mktemp("imported")
    model = foreign.recurrent(folder / "matting.onnx")
    import_model(model, folder / "bundle", options=ImportOptions(roles=["r_in=state:r_out"], size=(32, 16)))
    return folder / "bundle"


def test_every_engine_was_compared(bundle: Path) -> None:
    manifest = open_bundle(bundle).manifest
    checks = {(check["engine"], check["precision"]): check for check in manifest.verified["parity"]}
    assert set(checks) == set(available_engines())
    assert all(check["passed"] for (_, precision), check in checks.items() if precision == "fp32")
    assert manifest.verified["refusals"] == []
    assert not (bundle / "engines").exists()


def test_both_kinds_of_pixels_come_from_one_picture(bundle: Path) -> None:
    live = np.full((16, 32, 3), 77, np.uint8)
    shown = {}
    for pixels in ("rgb", "i420"):
        with Generator.open(bundle, engine="onnxruntime", pixels=pixels) as generator:
            generator.feed_live(live)
            shown[pixels] = next(generator).copy()
    luma = 16 + 219 / 255 * shown["rgb"][..., 0].astype(float)
    assert np.abs(shown["i420"][:16] - luma).max() <= 1
    assert set(shown["i420"][16:].reshape(-1)) == {128}, "grey has no colour"


def _with_golden(bundle: Path, folder: Path, **changes: Any) -> Path:
    """Copy a bundle and change arrays of its golden file; None leaves one out."""
    manifest = open_bundle(bundle).manifest.to_json()
    for file in bundle.rglob("*"):
        if file.is_file():
            target = folder / file.relative_to(bundle)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    with np.load(folder / "golden" / "original.npz") as stored:
        arrays = {**stored, **changes}
    np.savez(folder / "golden" / "original.npz", **{name: array for name, array in arrays.items() if array is not None})
    write_manifest(folder, manifest)
    return folder


def test_other_live_frames_make_other_golden_frames(bundle: Path, tmp_path: Path) -> None:
    other = _with_golden(bundle, tmp_path / "other", live=np.zeros((1, 16, 32, 3), np.uint8))
    assert min(result.psnr_db for result in check_golden(bundle, "onnxruntime")) >= 60
    assert max(result.psnr_db for result in check_golden(other, "onnxruntime")) < 40


@pytest.mark.parametrize(
    "live", [None, np.zeros((0, 16, 32, 3), np.uint8), np.zeros((1, 16, 30, 3), np.uint8), np.zeros((1, 16, 32, 3))]
)
def test_live_frames_of_another_kind_are_refused(bundle: Path, live: np.ndarray | None, tmp_path: Path) -> None:
    damaged = _with_golden(bundle, tmp_path / "damaged", live=live)
    with pytest.raises(BundleError, match=r'original\.npz: "live" is .*, expected'):
        check_golden(damaged, "onnxruntime")
