"""Small models like those of other projects: a style net, a recurrent one, a GAN, 2x super-resolution, two stages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


def write(path: Path, text: str, weights: Mapping[str, Any] | None = None, opset: int = 18, ir: int = 8) -> Path:
    """Write a model.

    Args:
        path: of the file.
        text: signature and body in ONNX's text form, without the header.
        weights: arrays by name.
        opset: of the standard operators.
        ir: version of the file format.

    Returns:
        The path.
    """
    header = f'<ir_version: {ir}, opset_import: ["" : {opset}, "com.acme" : 1]>\n'
    model = onnx.parser.parse_model(header + text)
    for name, value in (weights or {}).items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    onnx.save(model, path)
    return path


def as_before_2020(path: Path) -> Path:
    """Rewrite a model as PyTorch wrote it before 2020: IR version 3, in which every weight is an input too."""
    model = onnx.load(path)
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    onnx.save(model, path)
    return path


def random(*shape: int, seed: int = 0, scale: float = 0.4) -> np.ndarray:
    """Return reproducible weights, float32."""
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


def style(path: Path, opset: int = 18, end: str = "Sigmoid") -> Path:
    """A convolutional net for pictures of any size and batch, NCHW."""
    body = f"""net (float[batch,3,h,w] input) => (float[batch,3,h,w] output) {{
      a = Conv <pads = [1,1,1,1]> (input, first)
      b = Relu (a)
      c = Conv <pads = [1,1,1,1]> (b, second)
      output = {end} (c)
    }}"""
    return write(path, body, {"first": random(6, 3, 3, 3), "second": random(3, 6, 3, 3, seed=1)}, opset)


def windows_ml(path: Path, metadata: Mapping[str, str], opset: int = 8) -> Path:
    """A net as WinMLTools wrote it from Core ML: ImageScaler, Crop and Affine, and metadata of its pictures."""
    nodes = [
        helper.make_node("ImageScaler", ["image"], ["scaled"], scale=0.5, bias=[10.0, 20.0, 30.0]),
        helper.make_node("Pad", ["scaled"], ["padded"], mode="edge", pads=[0, 0, 4, 2, 0, 0, 6, 8]),
        helper.make_node("Crop", ["padded"], ["cut"], border=[2, 4, 8, 6]),
        helper.make_node("Crop", ["cut"], ["same"], border=[0, 0, 0, 0], scale=[16, 24]),
        helper.make_node("Affine", ["same"], ["out"], alpha=1.5, beta=2.0),
    ]
    pictures = [helper.make_tensor_value_info(name, 1, [1, 3, 16, 24]) for name in ("image", "out")]
    graph = helper.make_graph(nodes, "net", pictures[:1], pictures[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3)
    helper.set_model_props(model, dict(metadata))
    path.write_bytes(model.SerializeToString())
    return path


def recurrent(path: Path) -> Path:
    """A net that carries eight channels at half the size from frame to frame; all its axes are free."""
    body = """net (float[n,3,h,w] src, float[n,8,rh,rw] r_in) => (float[n,1,h,w] alpha, float[n,8,ah,aw] r_out) {
      down = Conv <strides = [2,2], pads = [1,1,1,1]> (src, first)
      kept = Mul (r_in, decay)
      sum = Add (down, kept)
      r_out = Tanh (sum)
      flat = Conv (r_out, second)
      large = Resize <mode = "nearest"> (flat, , scales)
      alpha = Sigmoid (large)
    }"""
    weights = {
        "first": random(8, 3, 3, 3), "second": random(1, 8, 1, 1, seed=1), "decay": np.float32(0.9),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }  # fmt: skip
    return write(path, body, weights)


def many_states(path: Path, count: int) -> Path:
    """A net with many states of one shape, h_0 to h_N, each with its next value, h_0_out to h_N_out."""
    numbers = range(count)
    signature = ", ".join(["float[1,3,16,16] x", *(f"float[1,4] h_{number}" for number in numbers)])
    results = ", ".join(["float[1,3,16,16] y", *(f"float[1,4] h_{number}_out" for number in numbers)])
    steps = "".join(f" a{number} = Add (h_{number}, step) h_{number}_out = Min (a{number}, top)" for number in numbers)
    total = ", ".join(f"h_{number}_out" for number in numbers)
    body = f"net ({signature}) => ({results}) {{{steps} all = Mean ({total}) m = ReduceMean <keepdims = 0> (all)"
    weights = {"step": np.float32(0.1), "top": np.float32(1)}
    return write(path, f"{body} y = Mul (x, m) }}", weights)


def gan(path: Path) -> Path:
    """A latent vector becomes a picture of 32 x 24 in [-1, 1]."""
    body = """net (float[batch,16,1,1] z) => (float[batch,3,24,32] face) {
      small = ConvTranspose (z, first)
      bent = Relu (small)
      large = ConvTranspose <strides = [8,8]> (bent, second)
      face = Tanh (large)
    }"""
    return write(path, body, {"first": random(16, 8, 3, 4), "second": random(8, 3, 8, 8, seed=1)}, opset=11)


def super_resolution(path: Path) -> Path:
    """Twice the size, uint8 NHWC BGR in and out, of a fixed size."""
    body = """net (uint8[1,20,24,3] small) => (uint8[1,40,48,3] large) {
      f = Cast <to = 1> (small)
      p = Transpose <perm = [0,3,1,2]> (f)
      c = Conv <pads = [1,1,1,1]> (p, weight)
      d = DepthToSpace <blocksize = 2> (c)
      e = Clip <min = 0.0, max = 255.0> (d)
      t = Transpose <perm = [0,2,3,1]> (e)
      large = Cast <to = 2> (t)
    }"""
    weight = np.abs(random(12, 3, 3, 3))
    weight /= weight.sum(axis=(1, 2, 3), keepdims=True)
    return write(path, body, {"weight": weight}, opset=9, ir=4)


def quantised(path: Path) -> Path:
    """A net in int8 of the kind that converters write: QuantizeLinear and DequantizeLinear around a convolution."""
    text = """net (float[1,3,16,24] x) => (float[1,3,16,24] y) {
      q = QuantizeLinear (x, scale, zero) d = DequantizeLinear (q, scale, zero)
      w = DequantizeLinear (kernel, small, none) c = Conv <pads = [1,1,1,1]> (d, w)
      s = Sigmoid (c) t = QuantizeLinear (s, scale, zero) y = DequantizeLinear (t, scale, zero)
    }"""
    weights = {
        "scale": np.float32(1 / 255), "zero": np.uint8(0), "small": np.float32(0.01), "none": np.int8(0),
        "kernel": np.random.default_rng(0).integers(-128, 128, (3, 3, 3, 3)).astype(np.int8),
    }  # fmt: skip
    return write(path, text, weights, opset=13)


def half_super_resolution(path: Path, kind: str, side: int = 64) -> Path:
    """Twice the size, with weights and features in FP16; `kind` is the type of its pictures, float16 or float."""
    before, after = ("x", "y") if kind == "float16" else ("x16", "y16")
    casts = "" if kind == "float16" else "x16 = Cast <to = 10> (x) y = Cast <to = 1> (y16)"
    body = f"""net ({kind}[1,3,{side},{side}] x) => ({kind}[1,3,{2 * side},{2 * side}] y) {{
      {casts.partition(" y = ")[0]}
      six = Reshape ({before}, sides)
      parts = Transpose <perm = [0,1,3,5,2,4]> (six)
      blocks = Reshape (parts, halved)
      a = Conv <pads = [1,1,1,1]> (blocks, first)
      b = PRelu (a, slope)
      c = Conv <pads = [1,1,1,1]> (b, second)
      detail = DepthToSpace <blocksize = 4> (c)
      large = Resize <mode = "linear"> ({before}, , scales)
      sum = Add (large, detail)
      {after} = Clip (sum, low, high)
      {"y = " + casts.partition(" y = ")[2] if casts else ""}
    }}"""
    weights = {
        "first": random(16, 12, 3, 3, scale=0.1), "slope": random(16, 1, 1, seed=1),
        "second": random(48, 16, 3, 3, seed=2, scale=0.02), "low": 0.0, "high": 1.0,
    }  # fmt: skip
    halves = {name: np.asarray(value, np.float16) for name, value in weights.items()}
    shapes = {"sides": np.array([1, 3, side // 2, 2, side // 2, 2]), "halved": np.array([1, 12, side // 2, side // 2])}
    scales = {"scales": np.array([1, 1, 2, 2], np.float32)}
    return write(path, body, {**halves, **shapes, **scales}, opset=13)


def passing_on(path: Path, width: int, height: int) -> Path:
    """A live picture comes back as it is."""
    shape = f"float[1,3,{height},{width}]"
    return write(
        path,
        f"net ({shape} picture) => ({shape} frame) {{ frame = Clip <min = 0.0, max = 1.0> (picture) }}",
        opset=9,
        ir=4,
    )


def two_stages(folder: Path) -> tuple[Path, Path]:
    """A picture becomes a style, and a style and a live picture become a frame: they share "style/code:0"."""
    first = """net (float[1,16,16,3] picture) => (float[1,4] "style/code:0") {
      mean = ReduceMean <axes = [1,2], keepdims = 0> (picture)
      "style/code:0" = MatMul (mean, weight)
    }"""
    step = """net (float[1,3,32,32] content, float[1,4] "style/code:0") => (float[1,3,32,32] output) {
      gains = MatMul ("style/code:0", weight)
      planes = Reshape (gains, shape)
      bent = Mul (content, planes)
      output = Sigmoid (bent)
    }"""
    shape = np.array([1, 3, 1, 1], np.int64)
    return (
        write(folder / "first.onnx", first, {"weight": random(3, 4, scale=2)}, opset=13),
        write(folder / "step.onnx", step, {"weight": random(4, 3, seed=1, scale=2), "shape": shape}),
    )


def whole_pictures(path: Path) -> Path:
    """Pictures in int8, as those of a quantised network of TensorFlow Lite."""
    text = """net (int8[1,16,16,3] x) => (int8[1,16,16,3] y) {
            numbers = DequantizeLinear(x, step, black)
            planes = Transpose<perm=[0,3,1,2]>(numbers)
            blurred = Conv<pads=[1,1,1,1]>(planes, kernel)
            picture = Transpose<perm=[0,2,3,1]>(blurred)
            y = QuantizeLinear(picture, step, black)
        }"""
    constants = {"step": np.float32(1 / 255), "black": np.int8(-128)}
    return write(path, text, {**constants, "kernel": random(3, 3, 3, 3)})


def shared_zero_point(path: Path) -> Path:
    """Two convolutions that share the zero point of their int8 weights."""
    text = """net (float[1,3,16,16] x) => (float[1,3,16,16] y) {
            q = QuantizeLinear(x, step, zero)
            inner = QLinearConv<pads=[1,1,1,1]>(q, step, zero, weight0, step, middle, step, zero)
            outer = QLinearConv<pads=[1,1,1,1]>(inner, step, zero, weight1, step, middle, step, zero)
            y = DequantizeLinear(outer, step, zero)
        }"""
    constants = {"step": np.float32(0.02), "zero": np.uint8(0), "middle": np.int8(0)}
    kernels = {
        f"weight{seed}": (300 * random(3, 3, 3, 3, seed=seed)).clip(-127, 127).astype(np.int8) for seed in range(2)
    }
    return write(path, text, {**constants, **kernels})
