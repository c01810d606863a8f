"""What the text of a prompt is in the condition graph: a vector or tokens, encoded when it comes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import numpy as np

from runtime.bundle.manifest import Manifest
from runtime.bundle.tensors import GraphSpec
from runtime.prompts.text_encoder import TextEncoder, prepare_text_encoder
from runtime.prompts.token_encoder import EncodedText, TokenEncoder, open_token_encoder

OpenEncoder = Callable[[], TextEncoder | TokenEncoder]


class PromptText:
    """Encodes texts for one condition graph; thread-safe.

    Args:
        graph: the condition graph of the manifest.
        open_encoder: opens what encodes texts when the first one arrives; None if the graph takes none.
    """

    def __init__(self, graph: GraphSpec, open_encoder: OpenEncoder | None) -> None:
        self._graph, self._open_encoder = graph, open_encoder
        self._encoder: TextEncoder | TokenEncoder | None = None
        self._empty: EncodedText | None = None
        self._lock = threading.Lock()

    @property
    def is_taken(self) -> bool:
        """Whether the graph takes a text."""
        return any(self._graph.only_input(role) is not None for role in ("text", "tokens"))

    @property
    def is_needed(self) -> bool:
        """Whether the graph always has a text: without one, it gets the tokens of the empty text."""
        return self._graph.only_input("tokens") is not None

    def encode(self, text: str | None) -> EncodedText:
        """Return the inputs of the graph that a text fills; those of no text for None.

        Raises:
            ValueError: the text is invalid, or none of its words is known.
            BundleError: the files of the text encoder are damaged.
            EngineError: the package tokenizers is needed and not installed.
        """
        if text is None and not self.is_needed:
            return EncodedText()
        with self._lock:
            if text is None and self._empty is not None:
                return self._empty
            if self._encoder is None:
                assert self._open_encoder is not None, "a graph that takes texts and no text encoder"
                self._encoder = self._open_encoder()
        if isinstance(self._encoder, TokenEncoder):
            encoded = self._encoder.encode(text)
            self._empty = encoded if text is None else self._empty
            return encoded
        tensor = self._graph.only_input("text")
        assert tensor is not None, "token vectors for a graph without a text input"
        assert text is not None, "a graph with a text input needs no text"
        vector = self._encoder.encode(text)[np.newaxis]
        vector.flags.writeable = False
        return EncodedText(MappingProxyType({tensor.name: vector}))


def prepare_encoder(folder: Path, manifest: Manifest) -> OpenEncoder | None:
    """Read now what encodes a bundle's texts, and return what returns it; None for a bundle that takes no text.

    Raises:
        BundleError: its files are damaged.
        EngineError: the package tokenizers is not installed, and no frame can be made without it.
    """
    if manifest.tokens is not None:
        encoder = open_token_encoder(folder, manifest)
        return lambda: encoder
    return None if manifest.text is None else prepare_text_encoder(folder, manifest)
