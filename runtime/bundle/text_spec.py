"""What turns a text into inputs of the condition graph: token vectors, or tokenizers (docs/bundle.md, "Text")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runtime.bundle.manifest_checks import check_path
from runtime.bundle.strict_json import StrictJson, nearest
from runtime.bundle.tensors import MAX_TOKENS, GraphSpec
from runtime.errors import BundleError

MAX_TOKENIZERS = 3
MAX_TOKEN_ID = 2**20  # ids are below it: three times the largest vocabulary in use
TOKENIZER_NAME = r"[a-z0-9][a-z0-9_-]{0,39}"


@dataclass(frozen=True)
class TextSpec:
    """The files of the text encoder (paths inside the bundle), and the licence and source of its token vectors."""

    tokenizer: str
    vectors: str
    scales: str
    licence: str
    source: str

    @property
    def files(self) -> tuple[str, ...]:
        """All of its files."""
        return self.tokenizer, self.vectors, self.scales


@dataclass(frozen=True)
class TokenizerSpec:
    """One tokenizer.

    Args:
        name: by which inputs with the role `tokens` refer to it.
        file: its tokenizer.json, a path inside the bundle.
        length: tokens of a text with special tokens and padding: L of the inputs.
        pad_id: token that fills a short text up.
    """

    name: str
    file: str
    length: int
    pad_id: int


@dataclass(frozen=True)
class TokensSpec:
    """The tokenizers of a bundle whose condition graph takes tokens, and their licence and source."""

    tokenizers: tuple[TokenizerSpec, ...]
    licence: str
    source: str

    @property
    def files(self) -> tuple[str, ...]:
        """All of its files."""
        return tuple(tokenizer.file for tokenizer in self.tokenizers)

    def find(self, name: str) -> TokenizerSpec:
        """Return a tokenizer by its name.

        Raises:
            BundleError: there is none of this name.
        """
        for tokenizer in self.tokenizers:
            if tokenizer.name == name:
                return tokenizer
        names = [tokenizer.name for tokenizer in self.tokenizers]
        raise BundleError(f'bundle.json: text: there is no tokenizer "{name}" {nearest(name, names)}')


def parse_text(value: Any) -> TextSpec | TokensSpec | None:
    """Parse the key `text` of a manifest.

    Raises:
        BundleError: a key or value breaks a rule of docs/bundle.md.
    """
    if value is None:
        return None
    if isinstance(value, dict) and "tokenizers" in value:
        return _parse_tokens(StrictJson(value, "bundle.json: text", ("tokenizers", "licence", "source")))
    fields = StrictJson(value, "bundle.json: text", ("tokenizer", "vectors", "scales", "licence", "source"))
    tokenizer, vectors, scales = (check_path(fields.text(key)) for key in ("tokenizer", "vectors", "scales"))
    return TextSpec(tokenizer, vectors, scales, fields.text("licence"), fields.text("source"))


def _parse_tokens(fields: StrictJson) -> TokensSpec:
    items = fields.items("tokenizers")
    if not 1 <= len(items) <= MAX_TOKENIZERS:
        raise BundleError(f'bundle.json: text: "tokenizers" must hold 1 to {MAX_TOKENIZERS} entries, got {len(items)}')
    found: list[TokenizerSpec] = []
    for index, item in enumerate(items):
        entry = StrictJson(item, f"bundle.json: text: tokenizers[{index}]", ("name", "file", "length", "pad_id"))
        tokenizer = TokenizerSpec(
            name=entry.text("name", TOKENIZER_NAME),
            file=check_path(entry.text("file")),
            length=entry.integer("length", 1, MAX_TOKENS),
            pad_id=entry.integer("pad_id", 0, MAX_TOKEN_ID - 1),
        )
        if any(tokenizer.name == other.name for other in found):
            raise BundleError(f'bundle.json: text: two tokenizers have the name "{tokenizer.name}"; names must differ')
        found.append(tokenizer)
    return TokensSpec(tuple(found), fields.text("licence"), fields.text("source"))


def check_text_inputs(condition: GraphSpec | None, text: TextSpec | TokensSpec | None, *, takes_vector: bool) -> None:
    """Check that `text` fits the inputs that need it.

    Args:
        condition: the condition graph.
        text: of the manifest.
        takes_vector: whether a graph has an input of the role text.

    Raises:
        BundleError: one is missing, both kinds are there, or a length or a mask does not fit.
    """
    tokens = () if condition is None else condition.inputs_of("tokens")
    masks = () if condition is None else condition.inputs_of("token_mask")
    if isinstance(text, TextSpec) and not takes_vector:
        raise BundleError("bundle.json: text needs a condition graph with an input of the role text")
    if takes_vector and not isinstance(text, TextSpec):
        got = "null" if text is None else "tokenizers"
        raise BundleError(f'bundle.json: condition has a text input, so "text" must name the files for it, got {got}')
    if tokens and not isinstance(text, TokensSpec):
        got = "null" if text is None else "token vectors"
        raise BundleError(f'bundle.json: condition takes tokens, so "text" must name their tokenizers, got {got}')
    if isinstance(text, TokensSpec):
        for tensor in tokens:
            _check_length(tensor.name, tensor.shape[1], text.find(tensor.tokenizer))
        unused = {tokenizer.name for tokenizer in text.tokenizers} - {tensor.tokenizer for tensor in tokens}
        if unused:
            raise BundleError(
                f'bundle.json: text: no input of the role tokens of condition uses the tokenizer "{min(unused)}"'
            )
    shapes = {tensor.name: tensor.shape for tensor in tokens}
    for tensor in masks:
        if shapes.get(tensor.of[0]) != tensor.shape:
            raise BundleError(
                f'bundle.json: condition input "{tensor.name}" of the shape {tensor.shape} is the mask of '
                f'"{tensor.of[0]}": expected an input of the role tokens and of the same shape'
            )


def _check_length(name: str, length: int, tokenizer: TokenizerSpec) -> None:
    if length != tokenizer.length:
        raise BundleError(
            f'bundle.json: condition input "{name}" takes {length} tokens, but its tokenizer "{tokenizer.name}" '
            f"makes {tokenizer.length}"
        )
