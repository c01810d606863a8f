"""The child process that reads a sound: a microphone, a file or an address -> blocks of 48 kHz stereo.

python -m streaming.sound.source_child      (started by `streaming.sound.source`)

The first message has the spec, the second the moment at which the show began: {"start": SECONDS}. It sends {"state":
"ready"} when the source is open, {"at": SECONDS} with int16 samples for each block, and {"error": REASON} before it
ends. Times are those of `time.monotonic`, which is the same for all processes.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from runtime.prompts.clips import open_video
from streaming.inputs.live_input_child import open_address
from streaming.process.child import ParentPipe
from streaming.sound.decoding import Block, check_sound, decoded
from streaming.sound.source import READY
from streaming.sound.timeline import CHANNELS, RATE

AHEAD_S = 0.3  # by which files are read before they are heard
_BLOCK = RATE // 100  # samples; of a microphone
_SILENT_S = 2.0  # without a block, a microphone is opened again
_LATE_S = 1.0  # an address further behind than this is placed anew
_HELD_S = 0.1  # for which the sound of an address is held back, so that it comes evenly


def read_microphone(device: str, on_open: Callable[[], object]) -> Iterator[Block]:
    """Yield what a microphone records.

    Args:
        device: its number or a part of its name; "" for the default.
        on_open: called when it records.

    Raises:
        ValueError: there is no such microphone, or a package is missing.
    """
    try:
        import sounddevice
    except ImportError as error:
        raise ValueError("a microphone needs sounddevice: pip install everframe[sound]") from error
    except OSError as error:
        raise ValueError("a microphone needs PortAudio: install libportaudio2 with your system's packages") from error
    blocks: queue.SimpleQueue[Block | None] = queue.SimpleQueue()

    def take(data: Any, frames: int, _when: object, _status: object) -> None:
        samples = np.repeat(data, CHANNELS, axis=1) if data.shape[1] == 1 else data[:, :CHANNELS].copy()
        blocks.put((samples, time.monotonic() - frames / RATE))

    try:
        chosen = int(device) if device.isdigit() else device or None
        channels = min(CHANNELS, sounddevice.query_devices(chosen, "input")["max_input_channels"])
        stream = sounddevice.InputStream(
            RATE,
            _BLOCK,
            chosen,
            max(1, channels),
            "int16",
            latency="low",
            callback=take,
            finished_callback=lambda: blocks.put(None),
        )
        with stream:
            on_open()
            while (block := blocks.get(timeout=_SILENT_S)) is not None:
                yield block
    except queue.Empty:
        pass  # unplugged: some systems say nothing
    except (sounddevice.PortAudioError, ValueError) as error:
        known = [item["name"] for item in sounddevice.query_devices() if item["max_input_channels"]]
        there = f"there are {', '.join(known)}" if known else "there is no microphone"
        raise ValueError(f"{' '.join(str(error).split())}; {there}") from error
    raise ValueError("the microphone has stopped")


def read_file(path: str, start: Callable[[], float], on_open: Callable[[], object]) -> Iterator[Block]:
    """Yield a file's sound, repeatedly, a little before it is to be heard.

    Args:
        path: of a file that FFmpeg reads.
        start: waits until the show has begun, and returns when that was.
        on_open: called when the file is open.

    Raises:
        ValueError: it cannot be read, or has no sound.
    """
    at_s: float | None = None
    while True:
        has_sound = False
        with open_video(path) as container:
            check_sound(container)
            if at_s is None:
                on_open()
                at_s = start()
            for samples, _ in decoded(container):
                has_sound = True
                now_s = time.monotonic()
                if at_s < now_s - _LATE_S:  # this process was stopped, e.g. with the machine
                    at_s = now_s
                time.sleep(max(0.0, at_s - AHEAD_S - now_s))
                yield samples, at_s
                at_s += len(samples) / RATE
        if not has_sound:
            raise ValueError("it has no sound")


def read_address(url: str, on_open: Callable[[], object]) -> Iterator[Block]:
    """Yield the sound of a stream as it arrives.

    Raises:
        ValueError: it cannot be opened, has no sound, or has ended.
    """
    with open_address(url) as container:
        check_sound(container)
        on_open()
        zero_s: float | None = None  # of the stream's time
        for samples, moment_s in decoded(container):
            now_s = time.monotonic()
            if zero_s is None or not -_LATE_S < zero_s + moment_s - now_s < _LATE_S + AHEAD_S:
                zero_s = now_s + _HELD_S - moment_s
            time.sleep(max(0.0, zero_s + moment_s - AHEAD_S - now_s))
            yield samples, zero_s + moment_s
    raise ValueError("the stream has ended")


def main() -> None:
    """Send blocks until the source or the parent ends."""
    import av

    av.logging.set_level(av.logging.PANIC)
    parent = ParentPipe()
    if (message := parent.receive()) is None:
        return
    spec = str(message[0]["spec"])
    started: queue.SimpleQueue[float] = queue.SimpleQueue()

    def listen() -> None:
        while (fields := parent.receive()) is not None:
            started.put(float(fields[0]["start"]))
        os._exit(0)

    def say_ready() -> None:
        threading.Thread(target=listen, daemon=True).start()
        parent.send({"state": READY})

    kind, _, rest = spec.partition(":")
    with contextlib.suppress(OSError):  # the parent has ended
        try:
            if kind == "mic" and not rest.startswith("//"):
                blocks = read_microphone(rest, say_ready)
            elif "://" in spec and not spec.startswith("file://"):
                blocks = read_address(spec, say_ready)
            else:
                blocks = read_file(spec.removeprefix("file://"), started.get, say_ready)
            for samples, at_s in blocks:
                parent.send({"at": at_s}, np.ascontiguousarray(samples).reshape(-1).view(np.uint8).data)
        except Exception as error:  # noqa: BLE001 - PortAudio and FFmpeg raise more types than are documented
            reason = getattr(error, "strerror", None) or str(error)
            parent.send({"error": " ".join(reason.split()) or type(error).__name__})


if __name__ == "__main__":
    main()
    os._exit(0)  # the thread that waits for the parent would hinder an ordinary exit
