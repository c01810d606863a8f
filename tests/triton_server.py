"""A stand-in for Triton Inference Server: its gRPC protocol, its sequences with implicit states, and ONNX Runtime.

It loads a model repository as Triton does: the configurations are parsed by Triton's own protobuf and compared with the
graphs. It does what Triton's documentation says of the settings that our repositories use (`sequence_batching` with
`oldest` and `initial_state`, `max_batch_size: 0`), and nothing else. It is not Triton: what passes here has not yet
been run on a Triton server.

    python -m tests.triton_server REPOSITORY --port 8001 [--no-compute]
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import grpc
import numpy as np
import onnx
import onnxruntime
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import np_to_triton_dtype, triton_to_np_dtype

from export.triton.config import check_config, parse_config

_LARGEST = 2**31 - 1


class RefusedError(Exception):
    """A request that Triton would refuse, with its words."""


class Model:
    """A loaded model.

    Attributes:
        config: its `ModelConfig`.
        sequences: correlation ID -> name of a state input -> its value.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        self.config = parse_config((folder / "config.pbtxt").read_text())
        assert self.config.name == folder.name, "Triton refuses a model whose name is not its folder's"
        assert self.config.backend == "onnxruntime", "the stand-in has no other backend"
        file = folder / "1" / self.config.default_model_filename
        check_config(self.config, onnx.load(file))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self.sequences: dict[int, dict[str, np.ndarray]] = {}
        self.num_computed, self.computed_ns = 0, 0
        self.frame: np.ndarray | None = None  # the answer to everything, if nothing is computed
        self.lock = threading.Lock()

    def infer(self, request: Any) -> Any:
        """Answer a `ModelInferRequest`."""
        given = {
            item.name: _to_array(item, content)
            for item, content in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        self._check(given)
        states = list(self.config.sequence_batching.state)
        sequence = request.parameters["sequence_id"].int64_param
        with self.lock:  # an instance runs one request at a time
            if states:
                given |= self._states(sequence, is_first=request.parameters["sequence_start"].bool_param)
            names = [item.name for item in self.config.output] + [item.output_name for item in states]
            start = time.perf_counter_ns()
            if self.frame is None:
                made = dict(zip(names, self._session.run(names, given), strict=True))
            else:
                made = {self.config.output[0].name: self.frame}
                made |= {item.output_name: given[item.input_name] for item in states}
            self.num_computed += 1
            self.computed_ns += time.perf_counter_ns() - start
            if states and request.parameters["sequence_end"].bool_param:
                del self.sequences[sequence]
            elif states:
                # Triton pairs states in the order of their names, whatever the configuration says.
                befores, afters = (
                    sorted(getattr(item, side) for item in states) for side in ("input_name", "output_name")
                )
                self.sequences[sequence] = {before: made[after] for before, after in zip(befores, afters, strict=True)}
        response = service_pb2.ModelInferResponse(model_name=self.config.name, model_version="1", id=request.id)
        for item in self.config.output:
            value = made[item.name]
            response.outputs.add(name=item.name, datatype=np_to_triton_dtype(value.dtype), shape=value.shape)
            response.raw_output_contents.append(value.tobytes())
        return response

    def _states(self, sequence: int, *, is_first: bool) -> dict[str, np.ndarray]:
        batching = self.config.sequence_batching
        if not sequence:
            raise RefusedError(
                f"inference request to model '{self.config.name}' must specify a non-zero correlation ID"
            )
        if is_first:
            others = len(self.sequences.keys() - {sequence})
            if others >= batching.oldest.max_candidate_sequences:
                raise RefusedError("the stand-in has no backlog: more sequences than max_candidate_sequences")
            return {
                item.input_name: np.zeros(item.initial_state[0].dims, _dtype(item.data_type)) for item in batching.state
            }
        if sequence not in self.sequences:
            raise RefusedError(
                f"inference request for sequence {sequence} to model '{self.config.name}' must specify the START flag "
                "on the first request of the sequence"
            )
        return self.sequences[sequence]

    def _check(self, given: dict[str, np.ndarray]) -> None:
        if len(given) != len(self.config.input):
            raise RefusedError(
                f"expected {len(self.config.input)} inputs but got {len(given)} inputs for model '{self.config.name}'"
            )
        for item in self.config.input:
            if item.name not in given:
                raise RefusedError(f"input '{item.name}' is missing for model '{self.config.name}'")
            value, dims = given[item.name], list(item.dims)
            fits = len(dims) == value.ndim and all(
                dim in (-1, size) for dim, size in zip(dims, value.shape, strict=True)
            )
            if not fits or value.dtype != _dtype(item.data_type):
                raise RefusedError(f"unexpected shape for input '{item.name}' for model '{self.config.name}'")


class TritonServer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """A server on this machine; use `with`.

    Args:
        repository: folder of the models.
        port: 0 for a free one.
        threads: of ONNX Runtime, for each model.

    Attributes:
        url: host and port.
        models: by name.
        num_bytes: bytes of the requests so far.
    """

    def __init__(self, repository: Path, *, port: int = 0, threads: int = 1) -> None:
        folders = sorted(path for path in repository.iterdir() if path.is_dir())
        self.models = {folder.name: Model(folder, threads) for folder in folders}
        self.num_bytes = 0
        options = [
            ("grpc.max_send_message_length", _LARGEST),
            ("grpc.max_receive_message_length", _LARGEST),
            ("grpc.so_reuseport", 0),
        ]
        self._server = grpc.server(ThreadPoolExecutor(8), options=options)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self.url = f"127.0.0.1:{self.port}"
        self._server.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """End at once, with all connections and states."""
        self._server.stop(grace=None).wait()

    def ServerLive(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerLiveResponse(live=True)

    def ModelReady(self, request: Any, context: Any) -> Any:
        return service_pb2.ModelReadyResponse(ready=request.name in self.models)

    def ModelConfig(self, request: Any, context: Any) -> Any:
        return service_pb2.ModelConfigResponse(config=self._model(request.name, context).config)

    def ModelStatistics(self, request: Any, context: Any) -> Any:
        model, answer = self._model(request.name, context), service_pb2.ModelStatisticsResponse()
        stats = answer.model_stats.add(name=request.name, version="1").inference_stats.compute_infer
        stats.count, stats.ns = model.num_computed, model.computed_ns
        return answer

    def ModelInfer(self, request: Any, context: Any) -> Any:
        self.num_bytes += request.ByteSize()
        try:
            return self._model(request.model_name, context).infer(request)
        except RefusedError as error:
            return context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    def ModelStreamInfer(self, request_iterator: Iterator[Any], context: Any) -> Iterator[Any]:
        for request in request_iterator:
            self.num_bytes += request.ByteSize()
            try:
                answer = self._model(request.model_name, context).infer(request)
                yield service_pb2.ModelStreamInferResponse(infer_response=answer)
            except RefusedError as error:
                yield service_pb2.ModelStreamInferResponse(error_message=str(error))

    def _model(self, name: str, context: Any) -> Model:
        if name not in self.models:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{name}' is not found")
        return self.models[name]


def _to_array(item: Any, content: bytes) -> np.ndarray:
    return np.frombuffer(content, triton_to_np_dtype(item.datatype)).reshape(list(item.shape))


def _dtype(kind: int) -> Any:
    from tritonclient.grpc.model_config_pb2 import DataType

    return np.dtype(triton_to_np_dtype(DataType.Name(kind).removeprefix("TYPE_")))


def main() -> None:
    """Serve a repository until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A stand-in for Triton Inference Server, for measurements.")
    parser.add_argument("repository", type=Path, help="folder of the models")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--threads", type=int, default=1, help="of ONNX Runtime")
    parser.add_argument("--no-compute", action="store_true", help="step models answer with grey frames")
    options = parser.parse_args()
    with TritonServer(options.repository, port=options.port, threads=options.threads) as server:
        for model in server.models.values() if options.no_compute else ():
            if model.config.sequence_batching.state:
                model.frame = np.full(model.config.output[0].dims, 128, np.uint8)
        print(f"the stand-in answers at {server.url}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
