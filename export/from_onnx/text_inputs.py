"""Inputs of the first of two models that take the tokens of a text, and the tokenizers that make them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.from_onnx.model import GraphPort, OnnxSource
from export.from_onnx.original import Array
from export.from_onnx.planned_graph import PlannedGraph, TensorType
from export.from_onnx.role_parser import TensorRole
from export.tokenizer_files import TokenizerSource, read_tokenizer_source, tokenizer_entry
from runtime.bundle.strict_json import nearest
from runtime.bundle.tensors import MAX_TOKENS, TensorSpec
from runtime.bundle.text_spec import MAX_TOKENIZERS, TokenizerSpec
from runtime.prompts.token_encoder import TokenEncoder

DTYPES = ("int64", "int32")
EXAMPLE_TEXT = "a red house by the sea, at night"  # of the golden frames
_MASK, _TYPES, _PLACES = re.compile("mask"), re.compile("type|segment"), re.compile("position")
_TOKENS = re.compile("ids?([^a-z]|$)|token|text|prompt")
_WHAT = "the model's tokenizer: tokenizer.json, or a folder with it or with vocab.json and merges.txt of CLIP"


@dataclass(frozen=True)
class TextOptions:
    """What the user said about texts.

    Args:
        tokenizers: a path for all inputs, or `INPUT=PATH` each.
        length: tokens of a text where the model leaves it free; None for what the tokenizer says.
    """

    tokenizers: Sequence[str] = ()
    length: int | None = None


@dataclass(frozen=True)
class TextPlan:
    """The text inputs of the first model.

    Args:
        sources: name of a tokenizer in the manifest -> the tokenizer.
        tokens: input with the role `tokens` -> name of its tokenizer.
        masks: input with the role `token_mask` -> input whose mask it is.
    """

    sources: Mapping[str, TokenizerSource]
    tokens: Mapping[str, str]
    masks: Mapping[str, str]

    def length(self, name: str) -> int:
        """Return the number of tokens of an input."""
        return self.sources[self.tokens[self.masks.get(name, name)]].length

    def specs(self, inputs: Mapping[str, TensorType]) -> list[TensorSpec]:
        """Return the text inputs among these, as the manifest describes them."""
        found = []
        for name, (dtype, shape) in inputs.items():
            if name in self.tokens:
                found.append(TensorSpec(name, dtype, shape, "tokens", tokenizer=self.tokens[name]))
            elif name in self.masks:
                found.append(TensorSpec(name, dtype, shape, "token_mask", of=(self.masks[name],)))
        return found

    def feeds(self, inputs: Mapping[str, TensorType], text: str | None) -> dict[str, Array]:
        """Return what the text inputs among these get for a text."""
        entries = [(TokenizerSpec(**tokenizer_entry(name, item)), item.text) for name, item in self.sources.items()]
        return dict(TokenEncoder(entries, self.specs(inputs)).encode(text).inputs)


def guess_text(
    ports: Sequence[GraphPort], roles: Mapping[str, TensorRole], options: TextOptions
) -> dict[str, TensorRole]:
    """Add roles to the inputs that take tokens, by their types, shapes and names.

    Args:
        ports: the inputs of the first model.
        roles: those that are known.
        options: of the user.

    Raises:
        ValueError: an input takes tokens, or a tokenizer was given, and the other is missing.
    """
    found = dict(roles)
    rows = [port for port in ports if port.name not in roles and _is_row(port)]
    named = {port.name: port.name.lower() for port in rows}
    for name, lower in named.items():
        if not (_MASK.search(lower) or _TYPES.search(lower) or _PLACES.search(lower)) and _TOKENS.search(lower):
            found[name] = TensorRole("tokens")
    tokens = [port for port in ports if port.name in found and found[port.name].kind == "tokens"]
    if not tokens and options.tokenizers and len(rows) == 1:
        tokens, found[rows[0].name] = rows, TensorRole("tokens")
    if tokens and not options.tokenizers:
        raise ValueError(f"the input {tokens[0]} takes the tokens of a text: pass --tokenizer FILE_OR_FOLDER, {_WHAT}")
    if options.tokenizers and not tokens:
        listed = ", ".join(map(str, ports)) or "none"
        raise ValueError(
            f"--tokenizer was given, and no input of the first model is known to take tokens: {listed}; pass --role "
            "NAME=tokens, or leave --tokenizer out"
        )
    for name, lower in named.items():
        if tokens and name not in found and _MASK.search(lower):
            found[name] = TensorRole("token_mask")
        elif tokens and name not in found and _TYPES.search(lower):
            found[name] = TensorRole("fixed", values=(0.0,))
    return found


def plan_text(
    source: OnnxSource,
    roles: Mapping[str, TensorRole],
    options: TextOptions,
    shapes: Mapping[str, tuple[int, ...]],
    needed: Collection[str],
) -> TextPlan | None:
    """Read the tokenizers, and find the length of every text input.

    Args:
        source: the first model.
        roles: of its inputs.
        options: of the user.
        shapes: given by the user.
        needed: inputs that the frame depends on.

    Returns:
        The plan; None if there are no text inputs.

    Raises:
        ValueError: a tokenizer is missing or cannot be read, or an input cannot take its tokens.
    """
    ports = {port.name: port for port in source.inputs if port.name in needed and port.name in roles}
    tokens = [name for name in ports if roles[name].kind == "tokens"]
    masks = {name: _mask_of(name, roles[name], tokens) for name in ports if roles[name].kind == "token_mask"}
    if not tokens:
        return None
    for name in (*tokens, *masks):
        if not _is_row(ports[name]):
            raise ValueError(f"the input {ports[name]} cannot take tokens: they are int64 or int32 [1, L]")
    paths = _paths(options.tokenizers, tokens)
    names: dict[tuple[Path, int], str] = {}
    sources: dict[str, TokenizerSource] = {}
    assigned: dict[str, str] = {}
    for name in tokens:
        related = [ports[name], *(ports[mask] for mask, of in masks.items() if of == name)]
        length = _length(related, options, shapes)
        item = read_tokenizer_source(paths[name], length)
        key = paths[name], item.length
        if key not in names:
            names[key] = _unique(paths[name], sources)
            sources[names[key]] = item
        assigned[name] = names[key]
    if len(sources) > MAX_TOKENIZERS:
        raise ValueError(f"{len(sources)} tokenizers were given; a bundle has at most {MAX_TOKENIZERS}")
    return TextPlan(sources, assigned, masks)


def check_vocabulary(stage: PlannedGraph, text: TextPlan) -> None:
    """Check that the model knows the last token of every tokenizer.

    Raises:
        ValueError: it fails on it, as it is another model's tokenizer.
    """
    every = stage.inputs | stage.unused
    feeds = {
        name: stage.value(name) if name in stage.roles else np.zeros(kind[1], kind[0]) for name, kind in every.items()
    }
    feeds |= {name: np.ones_like(feeds[name]) for name in text.masks}
    for name, tokenizer in text.tokens.items():
        size = text.sources[tokenizer].size
        dtype, shape = stage.inputs[name]
        try:
            stage.original.run(feeds | {name: np.full(shape, size - 1, dtype)})
        except ValueError as error:
            stage.original.run(feeds)  # it fails for another reason
            raise ValueError(
                f'the tokenizer of "{name}" has {size} tokens, and {stage.source.path.name} fails on the last one: '
                "give the tokenizer that belongs to this model"
            ) from error


def _is_row(port: GraphPort) -> bool:
    """Return whether an input can take tokens: integers of the shape (1, L)."""
    return port.dtype in DTYPES and len(port.shape) == 2 and (port.shape[0] == 1 or isinstance(port.shape[0], str))


def _mask_of(name: str, role: TensorRole, tokens: Sequence[str]) -> str:
    """Return the input whose mask an input is: the one that was named, the only one, or the one that ends alike."""
    if role.output:
        if role.output not in tokens:
            raise ValueError(
                f'"{name}" is the mask of "{role.output}", which takes no tokens {nearest(role.output, tokens)}'
            )
        return role.output
    like = [other for other in tokens if _ending(other) == _ending(name)]
    for found in (tokens, like):
        if len(found) == 1:
            return found[0]
    raise ValueError(
        f'"{name}" can be the mask of {" or ".join(tokens) or "nothing"}: pass --role {name}=token_mask:INPUT'
    )


def _ending(name: str) -> str:
    """Return the number at the end of a name."""
    return re.search(r"[0-9]*$", name)[0]  # type: ignore[index]


def _paths(given: Sequence[str], tokens: Sequence[str]) -> dict[str, Path]:
    """Return the tokenizer's path of every input."""
    paths: dict[str, Path] = {}
    shared: list[str] = []
    for word in given:
        name, _, path = word.partition("=")
        if path and name in tokens:
            paths[name] = Path(path)
        else:
            shared.append(word)
    if len(shared) > 1:
        raise ValueError(
            f"several tokenizers were given for all inputs: pass --tokenizer INPUT=PATH for {', '.join(tokens)}"
        )
    missing = [name for name in tokens if name not in paths]
    if missing and not shared:
        raise ValueError(
            f'"{missing[0]}" takes tokens and has no tokenizer: pass --tokenizer {missing[0]}=PATH, {_WHAT}'
        )
    return {name: paths.get(name, Path(shared[0]) if shared else Path()) for name in tokens}


def _length(ports: Sequence[GraphPort], options: TextOptions, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """Return the length that the model or the user gives an input and its masks; None for the tokenizer's."""
    stated = [port.shape[1] for port in ports if isinstance(port.shape[1], int)]
    stated += [shapes[port.name][1] for port in ports if len(shapes.get(port.name, ())) == 2]
    length = stated[0] if stated else options.length
    if any(other != length for other in stated) or (stated and options.length not in (None, length)):
        got = f", and --text-length is {options.length}" if options.length is not None else ""
        raise ValueError(f"the input {ports[0]} takes {' and '.join(map(str, stated))} tokens{got}: give one length")
    if length is not None and not 1 <= int(length) <= MAX_TOKENS:
        raise ValueError(f"the input {ports[0]} would take {length} tokens; a text has 1 to {MAX_TOKENS}")
    return None if length is None else int(length)


def _unique(path: Path, taken: Collection[str]) -> str:
    """Return a name for a tokenizer, of its folder."""
    base = re.sub(r"[^a-z0-9_-]+", "_", (path.name if path.is_dir() else path.resolve().parent.name).lower())
    base = base.strip("_-")[:36] or "text"
    number = 2
    name = base
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    return name
