"""The command line of the export of diffusers pipelines: `python -m export diffusers PATH --out BUNDLE`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from export.commandline import to_fps, to_list, to_size

_PACKAGES = ("torch", "diffusers", "transformers", "onnxscript", "onnxruntime")
EXAMPLES = """pipelines: StableDiffusion, LatentConsistencyModel and StableDiffusionXL, for text or for images, that need few steps
(SD-turbo, LCM, SDXL-turbo, or any with an LCM LoRA). Classifier-free guidance is not used: there is no negative prompt.

examples:
  python -m export diffusers sd-turbo --out bundles/turbo                        a live input is repainted
  python -m export diffusers sd-turbo --out bundles/turbo --vae taesd            with the small autoencoder: faster
  python -m export diffusers sd-turbo --out bundles/dream --mode txt2img         no live input: a slowly changing picture
  python -m export diffusers lcm --out bundles/lcm --steps 4                     four steps, as a stream batch
  python -m export diffusers sd15 --out bundles/style --scheduler lcm --steps 2 --lora lcm.safetensors --lora style.safetensors:0.8
  python -m streaming bundles/turbo --input webcam --text "a stormy sea" --to http://127.0.0.1:8000

controls of a bundle: strength (with a live input), guidance (pipelines with a guidance embedding), seed, drift (without
a live input). docs/diffusers.md says what each does, how large bundles are, and what licences ask for.
"""  # noqa: E501 - a command line is one line


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    made = argparse.ArgumentParser(
        prog="python -m export diffusers",
        description="Turn an image pipeline of diffusers into a bundle that can be streamed (docs/diffusers.md).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("path", type=Path, metavar="PATH", help="folder of the pipeline, with model_index.json and safetensors")
    add("--out", type=Path, required=True, metavar="BUNDLE", help="folder to write")
    add("--mode", default="img2img", help="img2img: repaints a live input; txt2img: has none (default img2img)")
    add("--steps", type=int, default=1, help="steps of the UNet per frame, 1 to 8, as one batch (default 1)")
    add("--size", metavar="WxH", help="frames in pixels (default: the pipeline's own, e.g. 512x512)")
    add("--strength", type=float, default=0.5, help="default of the control, above 0, at most 1 (default 0.5)")
    add("--guidance", type=float, default=8.0, help="default of the control, if the pipeline has it (default 8)")
    add("--precision", choices=("fp32", "fp16"), default="", help="of stored weights (default: fp16 from 100 MB on)")
    add("--vae", type=Path, metavar="FOLDER", help="another autoencoder, e.g. the folder of TAESD")
    add("--lora", action="append", default=[], metavar="FILE[:SCALE]", help="LoRA weights to fuse; repeatable")
    add("--scheduler", choices=("lcm", "euler", "euler-ancestral", "ddim"), default="",
        help="the scheduler that the weights were distilled for, if the folder names another")  # fmt: skip
    add("--prompt", default="a calm sea", help="text of the golden frames (default: a calm sea)")
    add("--fps", default="30", help="frames per second, e.g. 25 or 30000/1001 (default 30)")
    add("--name", default="", help="name of the bundle (default: the folder's)")
    add("--description", default="", help="one or two sentences about the pipeline")
    add("--licence", default="not stated", help="licence of the weights, stored in the manifest")
    add("--source", default="not stated", help="where the weights come from, stored in the manifest")
    add(
        "--parts", type=Path, metavar="FOLDER", help="keep exported parts there, for other exports of the same pipeline"
    )
    add("--engine", default="", metavar="E,...",
        help="engines to compare with diffusers beside onnxruntime (default: all, or none if large)")  # fmt: skip
    add("--force", action="store_true", help="replace BUNDLE if it exists and is a bundle")
    return made


def run(argv: Sequence[str]) -> Path:
    """Export a pipeline, print the parity, and return the bundle's folder.

    Args:
        argv: the arguments after `diffusers`.

    Raises:
        ValueError: as `export.diffusers.exporter.export_pipeline`, or an option is malformed.
        OSError: a file cannot be read or written.
    """
    arguments = parser().parse_args(argv)
    missing = [name for name in (*_PACKAGES, *(["peft"] if arguments.lora else [])) if find_spec(name) is None]
    if missing:
        raise ValueError(f"this needs {', '.join(missing)}: pip install 'everframe[diffusers]'")
    from export.diffusers.exporter import DiffusersOptions, export_pipeline
    from export.from_onnx.preview import PREVIEW
    from export.parity.checks import print_checks

    options = DiffusersOptions(
        mode=arguments.mode,
        steps=arguments.steps,
        size=None if arguments.size is None else to_size(arguments.size),
        strength=arguments.strength,
        guidance=arguments.guidance,
        precision=arguments.precision,
        vae=arguments.vae,
        lora=tuple(to_lora(text) for text in arguments.lora),
        scheduler=arguments.scheduler,
        prompt=arguments.prompt,
        fps=to_fps(arguments.fps),
        name=arguments.name,
        description=arguments.description,
        licence=arguments.licence,
        source=arguments.source,
        parts=arguments.parts,
        engines=_engines(arguments.engine),
    )
    out: Path = arguments.out
    report = export_pipeline(arguments.path, out, options, force=arguments.force, say=_say)
    checks = [result.check for result in report.results if result.check is not None]
    print_checks(checks, "parity with diffusers")
    times = [(result.check, result.frame_ms) for result in report.results if result.check is not None]
    print(", ".join(f"{check.engine} {check.precision}: {ms:.1f} ms per frame" for check, ms in times))
    memory = f"; most memory of one process: {report.peak_bytes / 1e9:.1f} GB" if report.peak_bytes else ""
    print(f"preview: {out / PREVIEW}{memory}")
    if report.delay:
        print(
            f"a frame shows the live picture of {report.delay} frames before: {report.delay + 1} steps run as a batch"
        )
    for result in report.results:
        if result.refusal:
            print(f"cannot run on {result.refusal}")
    return out


def to_lora(text: str) -> tuple[Path, float]:
    """Parse FILE[:SCALE].

    Raises:
        ValueError: the scale is no number, or out of range.
    """
    path, separator, scale = text.rpartition(":")
    if not separator or Path(text).exists():
        return Path(text), 1.0
    try:
        value = float(scale)
    except ValueError as error:
        raise ValueError(f"--lora must be FILE or FILE:SCALE, e.g. style.safetensors:0.8, got {text!r}") from error
    if not -4 <= value <= 4:
        raise ValueError(f"the scale of --lora must be from -4 to 4, got {text!r}")
    return Path(path), value


def _engines(text: str) -> list[tuple[str, str]] | None:
    """Return every precision of some engines, after ONNX Runtime in FP32; None for no names."""
    from export.parity.checks import available_engines

    names = to_list(text)
    if not names:
        return None
    pairs = available_engines()
    known = sorted({name for name, _ in pairs})
    if not set(names) <= set(known):
        raise ValueError(f"--engine must be of {', '.join(known)}, which can run here, got {text!r}")
    return [pair for pair in pairs if pair == ("onnxruntime", "fp32") or pair[0] in names]


def _say(text: str) -> None:
    print(text, flush=True)
