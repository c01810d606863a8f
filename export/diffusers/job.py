"""What a child process needs to know to load a pipeline: plain data, which travels as JSON. Imports no PyTorch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Self

from export.diffusers.pipeline_folder import PipelineFolder, read_folder
from export.diffusers.schedule import STOCHASTIC

FORMAT = 1  # raised when the files of components change, so that old ones are not reused


@dataclass(frozen=True)
class PipelineJob:
    """A pipeline and how it is exported.

    Args:
        folder: of the pipeline.
        vae: folder of another autoencoder, or "".
        lora: (file or folder, scale) of LoRA weights.
        scheduler: a name of `SCHEDULERS`, or "".
        mode: "img2img" or "txt2img".
        steps: number of UNet steps of a frame.
        width, height: of the frames in pixels.
        halve: whether weights are rounded to FP16.
        strength: the default of its control; 1 in the mode "txt2img".
        guidance: the default of its control, for pipelines with a guidance embedding.
    """

    folder: str
    vae: str
    lora: tuple[tuple[str, float], ...]
    scheduler: str
    mode: str
    steps: int
    width: int
    height: int
    halve: bool
    strength: float
    guidance: float

    def to_json(self) -> str:
        """Return the job as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the job of `to_json`."""
        value = json.loads(text)
        value["lora"] = tuple((str(path), float(scale)) for path, scale in value["lora"])
        return cls(**value)

    def read(self) -> PipelineFolder:
        """Read the pipeline's folder again; raises ValueError as `read_folder`."""
        lora = tuple((Path(path), scale) for path, scale in self.lora)
        vae = Path(self.vae) if self.vae else None
        return read_folder(Path(self.folder), vae=vae, lora=lora, scheduler=self.scheduler)

    def num_noises(self, scheduler: str) -> int:
        """Return how many latents of constant noise a frame needs, given the class of its scheduler."""
        return self.steps if scheduler in STOCHASTIC else 1

    def key(self, part: str, hashes: Mapping[str, str]) -> str:
        """Return what the exported file of a part depends on, as a hash.

        Args:
            part: e.g. "unet".
            hashes: of `export.diffusers.parts.part_hashes`.
        """
        own = {
            name: value
            for name, value in asdict(self).items()
            if name in ("halve", "width", "height") or (name == "steps" and part == "unet")
        }
        facts = {
            "format": [FORMAT, *(version(name) for name in ("diffusers", "transformers", "torch"))],
            "part": part,
            "job": own,
            "lora": () if part in ("encoder", "decoder") else self.lora,
            "files": dict(sorted(hashes.items())),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
