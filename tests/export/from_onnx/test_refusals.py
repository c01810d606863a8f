"""Unsupported models are rejected by the name of a tensor or operator, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from export.from_onnx.importer import ImportOptions, import_model
from export.from_onnx.model import GraphPort
from export.from_onnx.role_patterns import suggest_roles
from tests.export.from_onnx import foreign

HW = "float[1,3,16,16]"
REFUSED = {
    "five dimensions": (
        f"net (float[1,4,3,16,16] clip) => ({HW} y) {{ y = Squeeze (clip) }}",
        'the input "clip" .* has 5 dimensions',
    ),
    "a sequence": (
        f"net (seq({HW}) frames, int64 place) => ({HW} y) {{ y = SequenceAt (frames, place) }}",
        '"frames" is a sequence',
    ),
    "a string": (f"net ({HW} x, string[1] word) => ({HW} y) {{ y = Identity (x) }}", '"word" is of the type string'),
    "control flow": (
        f"""net ({HW} x, bool[1] flag) => ({HW} y) {{
          y = If (flag) <
            then_branch = yes () => ({HW} a) {{ a = Identity (x) }},
            else_branch = no () => ({HW} b) {{ b = Neg (x) }}
          >
        }}""",
        "the operator If .* is control flow",
    ),
    "random numbers": (
        f"net ({HW} x) => ({HW} y) {{ n = RandomNormalLike (x) y = Add (x, n) }}",
        "RandomNormalLike .* draws random numbers",
    ),
    "a custom operator": (
        f"net ({HW} x) => ({HW} y) {{ y = com.acme.Glow (x) }}",
        "com.acme.Glow is not standard ONNX",
    ),
    "no picture out": (
        f"net ({HW} x) => (float[1,3] y) {{ y = ReduceMean <keepdims=0> (x, axes) }}",
        "makes no frames",
    ),
    "two pictures out": (
        f"net ({HW} x) => ({HW} near, {HW} far) {{ near = Identity (x) far = Neg (x) }}",
        'several outputs are pictures: "near" .*"far"',
    ),
    "two pictures in": (f"net ({HW} x, {HW} other) => ({HW} y) {{ y = Add (x, other) }}", '"x" .* and "other" .* live'),
    "no picture in": (
        f"net (float[1,4] p, float[1,4] q) => ({HW} y) {{ s = Add (p, q) y = Expand (s, to) }}",
        "no input can be",
    ),
    "an open input": (
        f"net ({HW} x, float[1,3,1,1] gain) => ({HW} y) {{ y = Mul (x, gain) }}",
        'the input "gain" .* is ambiguous',
    ),
    "six channels out": (
        f"net ({HW} x) => (float[1,6,16,16] y) {{ y = Concat <axis=1> (x, x) }}",
        "makes no frames; one channel .* --role y=frame:channel=0",
    ),
    "four channels": ("net (float[1,4,16,16] x) => (float[1,4,16,16] y) { y = Neg (x) }", "no input can be"),
    "a batch that is in the graph": (
        "net (float[2,3,16,16] x) => (float[2,3,16,16] y) { y = Add (x, pair) }",
        "made for a batch of 2, and its graph does not work with a batch of 1",
    ),
    "a batch that is mixed": (
        "net (float[2,3,16,16] x) => (float[2,3,16,16] y) { s = ReduceSum (x) y = Mul (x, s) }",
        'does not work with a batch of 1 .*: its output "y" changes',
    ),
    "a batch of one input": (
        f"net ({HW} x, float[2,3,16,16] other) => ({HW} y) {{ y = Sub (x, x) }}",
        '"x" .* and "other" .* live',
    ),
    "either layout": ("net (float[1,3,16,3] x) => (float[1,3,16,3] y) { y = Neg (x) }", "no input can be"),
    "far from its range": (
        f"net ({HW} x) => ({HW} y) {{ y = Mul (x, much) }}",
        'which is not the range 0..1: give its range, .*"x" got rgb in .* 0..1, assumed.* x=live:bgr,0..255',
    ),
    "too few pixels": (
        "net (float[1,3,16,14] x) => (float[1,3,16,14] y) { y = Neg (x) }",
        "is 14 x 16 pixels, and a frame has 16 to 4096",
    ),
    "not finite": (f"net ({HW} x) => ({HW} y) {{ z = Sub (x, x) y = Div (x, z) }}", "not finite"),
}
WEIGHTS = {
    "axes": np.array([2, 3], np.int64),
    "to": np.array([1, 3, 16, 16], np.int64),
    "much": np.float32(200),
    "pair": np.array([[0, 1]], np.float32).reshape(2, 1, 1, 1).repeat(16, axis=3),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_it_is_rejected_by_name_and_nothing_is_written(fault: str, tmp_path: Path) -> None:
    text, sentence = REFUSED[fault]
    read = {name: value for name, value in WEIGHTS.items() if f"{name})" in text}
    model = foreign.write(tmp_path / "m.onnx", text, read)
    roles = ["flag=fixed:1"] if fault == "control flow" else []
    with pytest.raises(ValueError, match=sentence):
        import_model(model, tmp_path / "out" / "bundle", options=ImportOptions(roles=roles))
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("roles", "sentence"),
    [
        (["x"], "a role must be TENSOR=ROLE"),
        (["x=lvie"], 'there is no role "lvie" .did you mean "live"'),
        (["x=live", "x=image"], 'the role of "x" is given twice'),
        (["x=live:0..2"], 'unknown detail "0..2"'),
        (["x=live:mean=0.1/0.2"], "mean is one number or three"),
        (["x=live:mean=0.1,std=0"], "every std has to be above 0"),
        (["x=live:mean=104/117/123"], "add the range of their values"),
        (["x=live:imagenet,std=2"], "imagenet has a mean"),
        (["x=live:channel=1"], 'unknown detail "channel=1"'),
        (["x=live", "y=frame:channel=a"], "a channel is a number from 0"),
        (["x=live", "h=fixed:1", "g=fixed:1", "y=frame:channel=3"], "more than 3 channels, counted from 0"),
        (["x=live:nhwc"], '"x" .* is not a picture'),
        (["x=noise:3"], "the role noise has no details"),
        (["x=live", "h=fixed"], "give the fixed value"),
        (["x=live", "h=fixed:a"], "numbers must be separated by commas"),
        (["x=live", "h=fixed:1,2,3"], '"h" has 2 values, got 3'),
        (["x=live", "h=control:5@0..1"], "the limits must be LOW..HIGH"),
        (["x=live", "h=state:gone"], 'no output "gone"'),
        (["x=live", "h=state:y"], "they must match"),
        (["x=live", "h=state:k", "g=state:k"], "several states"),
        (["x=live", "h=state", "g=fixed:1"], 'the state "h" matches 2 outputs'),
        (["x=live", "h=memory", "g=fixed:1"], 'the memory "h" is not an output of the first model'),
        (["x=live", "h=fixed:1", "g=fixed:1", "k=frame"], '"k" .* is not a picture'),
    ],
)  # fmt: skip
def test_bad_roles_have_different_messages(roles: list[str], sentence: str, tmp_path: Path) -> None:
    text = f"""net ({HW} x, float[1,2] h, float[1,2] g) => ({HW} y, float[1,2] k, float[1,2] l) {{
      k = Neg (h) l = Neg (g) m = ReduceMean <keepdims = 0> (k) n = ReduceMean <keepdims = 0> (l) o = Add (m, n)
      y = Add (x, o)
    }}"""
    model = foreign.write(tmp_path / "m.onnx", text)
    with pytest.raises(ValueError, match=sentence):
        import_model(model, tmp_path / "bundle", options=ImportOptions(roles=roles))


def test_all_missing_roles_are_named_at_once_with_a_pattern(tmp_path: Path) -> None:
    model = foreign.many_states(tmp_path / "m.onnx", 36)
    with pytest.raises(ValueError, match="are ambiguous") as caught:
        import_model(model, tmp_path / "bundle")
    message = str(caught.value)
    assert all(f'"h_{number}" ' in message for number in range(36))
    assert "pass --role 'h_*=state:h_*_out', where ROLE is" in message
    with pytest.raises(ValueError, match=r'no tensor fits "g_\*"'):
        import_model(model, tmp_path / "bundle", options=ImportOptions(roles=["g_*=state:h_*_out"]))
    with pytest.raises(ValueError, match='the role of "h_1" is given twice'):
        import_model(model, tmp_path / "bundle", options=ImportOptions(roles=["h_*=noise", "*_1=noise"]))
    with pytest.raises(ValueError, match=r'a pattern has one "\*", got 2'):
        import_model(model, tmp_path / "bundle", options=ImportOptions(roles=["*h_*=noise"]))
    with pytest.raises(ValueError, match=r'the state "h_0" matches 2 outputs, the state "h_1" .*h_1=state:OUTPUT'):
        import_model(
            foreign.many_states(tmp_path / "n.onnx", 2), tmp_path / "bundle", options=ImportOptions(roles=["h_*=state"])
        )


def test_suggested_patterns_fit_no_other_input() -> None:
    def ports(*names: str) -> list[GraphPort]:
        return [GraphPort(name, "float32", (1, 4)) for name in names]

    missing, outputs = ports("r1i", "r2i", "gain", "odd in"), ports("r1o", "r2o")
    expected = "--role 'r*i=state:r*o' and --role gain=ROLE and --role 'odd in=ROLE'"
    assert suggest_roles(missing, [port.name for port in missing], outputs) == expected
    assert suggest_roles(missing[:2], ["r1i", "r2i", "r3i"], outputs) == "--role r1i=ROLE and --role r2i=ROLE"


def test_inputs_of_the_condition_without_a_role_are_named(tmp_path: Path) -> None:
    _, step = foreign.two_stages(tmp_path)
    text = """net (float[1,16,16,3] picture, float[1,4] style, float[1,4] more) => (float[1,4] "style/code:0") {
      mean = ReduceMean <axes = [1,2], keepdims = 0> (picture) a = MatMul (mean, weight) b = Add (a, style)
      "style/code:0" = Add (b, more)
    }"""
    first = foreign.write(tmp_path / "first.onnx", text, {"weight": foreign.random(3, 4)}, opset=13)
    with pytest.raises(ValueError, match=r'have no role: "style" .*, "more" .*; pass --role style=ROLE, --role more='):
        import_model(step, tmp_path / "bundle", condition=first)


def test_custom_operators_are_named_before_roles(tmp_path: Path) -> None:
    text = f"""net ({HW} x, {HW} other) => ({HW} y, {HW} z) {{
      a = com.acme.Glow (x) b = com.acme.Melt (a) y = com.acme.Glow (b) z = Add (y, other)
    }}"""
    model = foreign.write(tmp_path / "m.onnx", text)
    with pytest.raises(ValueError, match=r"^the operators com\.acme\.Glow, com\.acme\.Melt are not standard ONNX"):
        import_model(model, tmp_path / "bundle")
    converted = foreign.write(tmp_path / "tf.onnx", f"net ({HW} x, {HW} other) => ({HW} y) {{ y = Add (x, other) }}")
    loaded = onnx.load(converted)
    loaded.graph.node[0].domain = "ai.onnx.converters.tensorflow"
    loaded.graph.node[0].op_type = "Roll"
    onnx.save(loaded, converted)
    with pytest.raises(ValueError, match=r"ai\.onnx\.converters\.tensorflow\.Roll is not .* tf2onnx found no ONNX"):
        import_model(converted, tmp_path / "bundle")


def test_what_the_frame_does_not_depend_on_may_be_anything(tmp_path: Path) -> None:
    text = f"""net ({HW} x, bool[1] flag) => ({HW} y, {HW} z) {{
      y = Neg (x)
      z = If (flag) <
        then_branch = yes () => ({HW} a) {{ a = Identity (x) }},
        else_branch = no () => ({HW} b) {{ b = Neg (x) }}
      >
    }}"""
    model = foreign.write(tmp_path / "m.onnx", text)
    report = import_model(model, tmp_path / "bundle", options=ImportOptions(roles=["y=frame:-1..1"]))
    assert "  flag -> not used: the frame does not depend on it" in report.lines


@pytest.mark.parametrize("content", [b"", b"not onnx", onnx.ModelProto(ir_version=8).SerializeToString()])
def test_a_file_that_is_no_model(content: bytes, tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(content)
    with pytest.raises(ValueError, match=r"m\.onnx (cannot be read as|is not an) ONNX"):
        import_model(model, tmp_path / "bundle")


def test_an_opset_too_old_and_a_size_that_is_not_possible(tmp_path: Path) -> None:
    old = foreign.write(tmp_path / "old.onnx", f"net ({HW} x) => ({HW} y) {{ y = Neg (x) }}", opset=6)
    with pytest.raises(ValueError, match="uses opset 6: export it with opset 7 or newer"):
        import_model(old, tmp_path / "bundle")
    fixed = foreign.write(tmp_path / "fixed.onnx", f"net ({HW} x) => ({HW} y) {{ y = Neg (x) }}")
    with pytest.raises(ValueError, match="--size 64x64 is not possible"):
        import_model(fixed, tmp_path / "bundle", options=ImportOptions(size=(64, 64)))


def test_a_name_with_terminal_escapes_is_rejected(tmp_path: Path) -> None:
    path = foreign.write(tmp_path / "m.onnx", f"net ({HW} x) => ({HW} y) {{ y = Neg (x) }}")
    model = onnx.load(path)
    model.graph.node[0].name = "\x1b[2Jnode"
    onnx.save(model, path)
    with pytest.raises(ValueError, match=r"holds a name with characters that are not printable, '\\x1b"):
        import_model(path, tmp_path / "bundle")
