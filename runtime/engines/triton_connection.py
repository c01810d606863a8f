"""The connection to a Triton server: its protocol (gRPC, by tritonclient), time-outs, and what an error means."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from runtime.engines.engine import Array
from runtime.errors import EngineError

REQUEST_S = 30.0  # the longest that an answer is waited for
RECONNECT_S = 20.0  # the longest that a lost server is waited for
_LIVE_S = 3.0  # the longest that a server is waited for at the start
_RETRY_S = 0.25
_LARGEST = 2**31 - 1  # bytes of a message, as Triton has it
# A lost server is tried again at once: the waits of gRPC grow to two minutes.
_CHANNEL = [
    ("grpc.max_send_message_length", _LARGEST),
    ("grpc.max_receive_message_length", _LARGEST),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.use_local_subchannel_pool", 1),
]
_LOST = ("StatusCode.UNAVAILABLE", "StatusCode.CANCELLED", "StatusCode.UNKNOWN")
# What Triton says if a sequence is not known any more: the server was restarted, or the sequence was idle for too long.
_NO_SEQUENCE = "must specify the START flag"
Result = TypeVar("Result")


class ServerLostError(Exception):
    """The connection is gone, or the server has forgotten the sequence."""


def why_not_installed() -> str | None:
    """Return None, or one sentence: which extra is missing."""
    if find_spec("tritonclient") is None or find_spec("grpc") is None:
        return "frames of a Triton server need the extra: pip install everframe[triton]"
    return None


class ModelMissingError(EngineError):
    """The server has no such model, or has not loaded it yet."""


class Connection:
    """A connection to a server; for one thread at a time.

    Args:
        url: host and port, e.g. "gpu.example.org:8001".
    """

    def __init__(self, url: str) -> None:
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its log lines would be mixed with ours
        import tritonclient.grpc

        self.url, self._library = url, tritonclient.grpc
        self._client: Any = None
        self._answers: SimpleQueue[tuple[Any, Any]] = SimpleQueue()
        self._has_stream = False

    def why_not_live(self) -> str | None:
        """Return None, or one sentence: why the server cannot be used."""
        try:
            if self._connected().is_server_live(client_timeout=_LIVE_S):
                return None
            why = "it says that it is not live"
        except self._library.InferenceServerException as error:
            why = to_reason(error)
        return f"no Triton server answers at {self.url} ({why}): start tritonserver there, or name another engine"

    def config(self, model: str) -> Any:
        """Return the `ModelConfig` of a model.

        Raises:
            ModelMissingError: the server has no such model, or it is not ready.
            ServerLostError: the server does not answer.
        """
        client = self._connected()
        try:
            if client.is_model_ready(model, client_timeout=REQUEST_S):
                return client.get_model_config(model, client_timeout=REQUEST_S).config
            why = "it is not ready: the server's log says why"
        except self._library.InferenceServerException as error:
            why = self._refused(error)
        raise ModelMissingError(
            f'the Triton server at {self.url} has no model "{model}" ({why}): '
            "write one by python -m export triton, or give its name as grpc://HOST:PORT/NAME"
        )

    def infer(self, model: str, inputs: Mapping[str, Array]) -> Any:
        """Evaluate a graph without states and return the `InferResult`; errors as of `receive`."""
        client = self._connected()
        try:
            return client.infer(model, self.to_inputs(inputs), client_timeout=REQUEST_S)
        except self._library.InferenceServerException as error:
            raise EngineError(f"the Triton server at {self.url} failed: {self._refused(error)}") from error

    def send(
        self, model: str, inputs: list[Any], sequence: int, *, is_first: bool = False, is_last: bool = False
    ) -> None:
        """Send a request of a sequence; `receive` returns the answers in the order of the requests.

        Raises:
            ServerLostError: the connection is gone.
        """
        client = self._connected()
        try:
            if not self._has_stream:
                answers = self._answers = SimpleQueue()  # answers of an earlier stream must not come into this one
                client.start_stream(lambda result, error: answers.put((result, error)))
                self._has_stream = True
            client.async_stream_infer(
                model, inputs, sequence_id=sequence, sequence_start=is_first, sequence_end=is_last
            )
        except self._library.InferenceServerException as error:
            raise ServerLostError(to_reason(error)) from error

    def receive(self, timeout_s: float = REQUEST_S) -> Any:
        """Wait for the answer to the oldest request that was sent, and return the `InferResult`.

        Raises:
            EngineError: the server refused the request, or did not answer in time.
            ServerLostError: the connection is gone, or the server has forgotten the sequence.
        """
        try:
            result, error = self._answers.get(timeout=timeout_s)
        except Empty:
            raise EngineError(f"the Triton server at {self.url} did not answer for {timeout_s:g} s") from None
        if error is not None:
            if error.status() is not None:  # of the stream, not of the request
                raise ServerLostError(to_reason(error)) from error
            raise EngineError(f"the Triton server at {self.url} failed: {self._refused(error)}")
        return result

    def to_inputs(self, values: Mapping[str, Array]) -> list[Any]:
        """Return the `InferInput` of each value, which holds a copy."""
        from tritonclient.utils import np_to_triton_dtype

        inputs = []
        for name, value in values.items():
            item = self._library.InferInput(name, list(value.shape), np_to_triton_dtype(value.dtype))
            inputs.append(item.set_data_from_numpy(value))
        return inputs

    def until_back(self, act: Callable[[], Result], what: str) -> Result:
        """Do something, and do it again while the server is lost.

        Raises:
            EngineError: the server is not back in `RECONNECT_S`, or refuses what is done.
        """
        end = time.monotonic() + RECONNECT_S
        while True:
            try:
                return act()
            except (ServerLostError, ModelMissingError) as error:
                self.close()
                if time.monotonic() >= end:
                    raise EngineError(
                        f"the Triton server at {self.url} was lost ({what}) and did not come back in {RECONNECT_S:g} s "
                        f"({error})"
                    ) from error
                time.sleep(_RETRY_S)

    def close(self) -> None:
        """Close the connection; the next call opens another one."""
        client, self._client, self._has_stream = self._client, None, False
        if client is not None:
            client.stop_stream(cancel_requests=True)
            client.close()

    def _connected(self) -> Any:
        if self._client is None:
            self._client = self._library.InferenceServerClient(self.url, channel_args=_CHANNEL)
        return self._client

    def _refused(self, error: Any) -> str:
        """Return why the server refused something; raise ServerLostError if it did not."""
        if _NO_SEQUENCE in error.message():
            raise ServerLostError("it had ended the sequence") from error
        if error.status() in _LOST:
            raise ServerLostError(to_reason(error)) from error
        return to_reason(error)


def to_reason(error: Any) -> str:
    """Return the first line of an `InferenceServerException`, at most 300 characters."""
    if error.status() == "StatusCode.DEADLINE_EXCEEDED":
        return "no answer in time"
    lines = str(error.message() or "").splitlines() or [str(error.status())]
    if error.status() == "StatusCode.UNAVAILABLE":
        return "connection refused or lost"
    return lines[0][:300]
