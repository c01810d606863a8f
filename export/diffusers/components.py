"""The parts of a pipeline as PyTorch modules with plain tensors in and out, and their export to ONNX files.

Legend: N steps, D width of the text embedding, P of the pooled one, L tokens, h and w of the latent, H and W pixels.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from export.diffusers.job import PipelineJob
from export.diffusers.loading import load_pipeline, quiet
from export.diffusers.pipeline_folder import LATENT_CHANNELS, PipelineFolder, read_text_limits
from export.external_weights import read_external, save_external
from export.from_onnx.model import OPSET


class TextPart(nn.Module):
    """A text encoder: tokens int64 (1, L) -> embedding (1, L, D), and for SDXL's second one also pooled (1, P).

    SDXL takes the embedding before the last layer.
    """

    def __init__(self, encoder: nn.Module, *, is_penultimate: bool, has_pooled: bool) -> None:
        super().__init__()
        self.encoder, self.is_penultimate, self.has_pooled = encoder, is_penultimate, has_pooled

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Encode tokens."""
        found = self.encoder(tokens, output_hidden_states=self.is_penultimate)
        embedding = found.hidden_states[-2] if self.is_penultimate else found.last_hidden_state
        return (embedding, found.text_embeds) if self.has_pooled else (embedding,)


class EncodePart(nn.Module):
    """The encoder of the autoencoder: picture (1, 3, H, W) in [-1, 1] -> latent (1, 4, h, w), the mean, scaled."""

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, picture: Tensor) -> Tensor:
        """Encode a picture."""
        found = self.vae.encode(picture)
        latent: Tensor = found.latents if hasattr(found, "latents") else found.latent_dist.mode()
        return latent * self.vae.config.scaling_factor


class DecodePart(nn.Module):
    """The decoder of the autoencoder: latent (1, 4, h, w) -> picture (1, 3, H, W), about [-1, 1]."""

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latent: Tensor) -> Tensor:
        """Decode a latent."""
        picture: Tensor = self.vae.decode(latent / self.vae.config.scaling_factor, return_dict=False)[0]
        return picture


class UnetPart(nn.Module):
    """The UNet, for N latents at N timesteps and one prompt.

    Inputs: latents (N, 4, h, w), timesteps (N,), embedding (1, L, D), then pooled (1, P) for SDXL, then guidance (1,)
    for networks with a guidance embedding. The output has the shape of the latents.
    """

    def __init__(self, unet: nn.Module, size: tuple[int, int], *, is_large: bool, guidance_values: int) -> None:
        super().__init__()
        self.unet, self.is_large, self.guidance_values = unet, is_large, guidance_values
        width, height = size
        # Original size, top left corner of the crop, and wanted size, as (height, width).
        self.register_buffer("sizes", torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32))

    def forward(self, latents: Tensor, timesteps: Tensor, embedding: Tensor, *more: Tensor) -> Tensor:
        """Predict the noise, or the velocity."""
        batch = latents.shape[0]
        options: dict[str, Any] = {}
        if self.is_large:
            sizes = self.sizes.expand(batch, -1)
            options["added_cond_kwargs"] = {"text_embeds": more[0].expand(batch, -1), "time_ids": sizes}
        if self.guidance_values:
            options["timestep_cond"] = guidance_embedding(more[-1] - 1, self.guidance_values).expand(batch, -1)
        states = embedding.expand(batch, -1, -1)
        predicted: Tensor = self.unet(latents, timesteps, states, return_dict=False, **options)[0]
        return predicted


def guidance_embedding(scale: Tensor, values: int) -> Tensor:
    """Return the sinusoidal embedding of a guidance scale (Luo et al. 2023), (1,) -> (1, values)."""
    half = values // 2
    rates = torch.exp(torch.arange(half, dtype=torch.float32) * -(torch.log(torch.tensor(10000.0)) / (half - 1)))
    angles = scale[:, None] * 1000.0 * rates[None]
    found = torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
    return nn.functional.pad(found, (0, values % 2))


def export_part(job: PipelineJob, part: str, out: Path) -> dict[str, Any]:
    """Write one part as `OUT/PART.onnx` and `OUT/PART.weights`.

    Args:
        job: of the export.
        part: a name of `export.diffusers.pipeline_folder.part_names`.
        out: folder; files of the same part are replaced.

    Returns:
        Facts for the bundle: the names and shapes of its inputs and outputs.

    Raises:
        ValueError: the pipeline cannot be loaded or exported.
    """
    with quiet(), torch.no_grad():
        folder = job.read()
        owner = "vae" if part in ("encoder", "decoder") else part
        pipeline = load_pipeline(job, (owner,))
        module, inputs, names, outputs = _module(job, folder, getattr(pipeline, owner), part)
        del pipeline
    scratch = out / f"{part}.torch"
    _remove_stale(out, part)
    scratch.mkdir(parents=True)
    try:
        with quiet(), torch.no_grad():
            torch.onnx.export(
                module.eval(),
                inputs,
                str(scratch / "model.onnx"),
                input_names=names,
                output_names=outputs,
                opset_version=OPSET,
                dynamo=False,  # a fifth of the time of the newer exporter; the graph is then folded
            )
        del module, inputs
        model = _folded(read_external(scratch / "model.onnx"))
        save_external(model, out / f"{part}.onnx", out / f"{part}.weights", halve=job.halve)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    return {"inputs": names, "outputs": outputs, "shapes": shapes}


def _remove_stale(out: Path, part: str) -> None:
    """Remove what an export of the part left that was killed."""
    shutil.rmtree(out / f"{part}.torch", ignore_errors=True)
    for end in ("onnx", "weights"):
        for file in out.glob(f".{part}.{end}.*"):
            file.unlink(missing_ok=True)


def _module(
    job: PipelineJob, folder: PipelineFolder, owner: Any, part: str
) -> tuple[nn.Module, tuple[Tensor, ...], list[str], list[str]]:
    """Return a part's module, example inputs, and the names of its inputs and outputs."""
    rows, columns = job.height // folder.scale, job.width // folder.scale
    latent = torch.zeros(1, LATENT_CHANNELS, rows, columns)
    if part == "encoder":
        return EncodePart(owner), (torch.zeros(1, 3, job.height, job.width),), ["picture"], ["latent"]
    if part == "decoder":
        return DecodePart(owner), (latent,), ["latent"], ["picture"]
    if part != "unet":
        has_pooled = part == "text_encoder_2"
        length = read_text_limits(folder.path / part)[0]
        module = TextPart(owner, is_penultimate=folder.family == "sdxl", has_pooled=has_pooled)
        outputs = ["embedding", "pooled"] if has_pooled else ["embedding"]
        return module, (torch.zeros(1, length, dtype=torch.int64),), ["tokens"], outputs
    settings = owner.config
    inputs = [latent.expand(job.steps, -1, -1, -1).clone(), torch.full((job.steps,), 500.0)]
    names = ["latents", "timesteps", "embedding"]
    inputs.append(torch.zeros(1, folder.text_length, int(settings.cross_attention_dim)))
    is_large = folder.family == "sdxl"
    if is_large:
        pooled = int(settings.projection_class_embeddings_input_dim) - 6 * int(settings.addition_time_embed_dim)
        inputs.append(torch.zeros(1, pooled))
        names.append("pooled")
    if folder.guidance_values:
        inputs.append(torch.ones(1))
        names.append("guidance")
    module = UnetPart(owner, (job.width, job.height), is_large=is_large, guidance_values=folder.guidance_values)
    return module, tuple(inputs), names, ["predicted"]


def _folded(model: Any) -> Any:
    """Return a graph whose nodes that compute sizes are constants: all shapes are fixed."""
    import onnx_ir as ir
    from onnxscript import optimizer

    folded = ir.serde.deserialize_model(model)
    optimizer.optimize(folded)
    result = ir.serde.serialize_model(folded)
    for node in result.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del result.graph.value_info[:]
    return result
