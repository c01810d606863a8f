"""Child processes: `python -m MODULE`, and the messages that parent and child exchange over pipes.

A message is one line of JSON, an object. If it has a "size", that many bytes follow the line, e.g. a frame. The parent
writes to the child's standard input and reads its standard output. A child ends when its standard input ends, which
also happens when the parent is killed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

Data = bytes | bytearray | memoryview
Message = tuple[dict[str, Any], Data]
_QUEUE_LENGTH = 2  # messages that wait for the child, the one being written included
_MAX_BYTES = 2**28  # of one message


def encode(fields: Mapping[str, Any], *data: Data) -> bytes:
    """Return the line that precedes a message's data."""
    total = sum(map(len, data))
    size = {"size": total} if total else {}
    return json.dumps({**fields, **size}).encode() + b"\n"


def _read(file: IO[bytes], allocate: Callable[[int], Data] = bytearray) -> Message | None:
    """Return the next message; None at the end of the file and if it does not hold one."""
    try:
        line = file.readline()
        fields = json.loads(line) if line.endswith(b"\n") else None
    except (OSError, ValueError):
        return None
    if not isinstance(fields, dict):
        return None
    size = fields.pop("size", 0)
    if not isinstance(size, int) or not 0 <= size <= _MAX_BYTES:
        return None
    data = allocate(size)
    if size and file.readinto(data) != size:  # type: ignore[attr-defined]  # a BufferedReader reads all of it
        return None
    return fields, data


class ChildProcess:
    """A running child. Two threads write and read the pipes, so that no call blocks without a limit.

    Args:
        module: what `python -m` runs.
        config: the first message; None for none.
        environment: variables added to this process's own.
        niceness: how far the child's priority is lowered, as `nice` counts.
        is_quiet: whether the child's standard error is discarded.

    Attributes:
        pid: the child's process id.

    Raises:
        OSError: the system starts no more processes or threads.
    """

    def __init__(
        self,
        module: str,
        config: Mapping[str, Any] | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        niceness: int = 0,
        is_quiet: bool = False,
    ) -> None:
        # The child finds this package even if it is not installed.
        paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
        flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
        if niceness:
            flags |= getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if is_quiet else None,
            env={**os.environ, **(environment or {}), "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,  # Ctrl-C is for the show, which then closes its children
            creationflags=flags,  # the same on Windows
        )
        self.pid = self._process.pid
        if niceness and hasattr(os, "setpriority"):
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self.pid, os.getpriority(os.PRIO_PROCESS, 0) + niceness)
        self._changed = threading.Condition()
        self._outbox: deque[tuple[Data, ...]] = deque([] if config is None else [(encode(config),)])
        self._inbox: deque[Message] = deque()
        self._is_finished = False  # nothing more will be sent
        self._is_broken = False  # the child reads no more messages
        self._is_silent = False  # the child has sent its last message
        self._is_closed = False
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._write_all, self._read_all)]
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError as error:
            self.close()
            raise OSError(errno.EAGAIN, "the system starts no more threads") from error

    def send(self, fields: Mapping[str, Any], *data: Data, timeout_s: float = 5.0) -> None:
        """Queue a message; wait until there is room for it.

        Args:
            fields: the message, ready for JSON.
            data: bytes that follow it, one part after the other; must not change afterwards.
            timeout_s: how long to wait.

        Raises:
            TimeoutError: the child has not read earlier messages in time.
            BrokenPipeError: the child has ended, or `finish` was called.
        """
        with self._changed:
            is_free = self._changed.wait_for(lambda: self._is_broken or len(self._outbox) < _QUEUE_LENGTH, timeout_s)
            if self._is_broken or self._is_finished:
                raise BrokenPipeError("the child process has ended")
            if not is_free:
                raise TimeoutError("the child process takes no more messages")
            self._outbox.append((encode(fields, *data), *data))
            self._changed.notify_all()

    def receive(self, timeout_s: float | None = None) -> Message | None:
        """Return the child's next message: its fields and its data.

        Args:
            timeout_s: how long to wait; None waits until there is a message or the child has ended.

        Returns:
            None if there is no message in time.

        Raises:
            ConnectionAbortedError: the child has ended and all its messages have been received.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._inbox or self._is_silent, timeout_s)
            if self._inbox:
                self._changed.notify_all()
                return self._inbox.popleft()
            if self._is_silent:
                raise ConnectionAbortedError("the child process has ended")
            return None

    def finish(self) -> None:
        """End the child's standard input after the messages that are queued; returns at once."""
        with self._changed:
            self._is_finished = True
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> int | None:
        """Return the child's exit status; None if it still runs after `timeout_s` seconds."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def has_ended(self) -> bool:
        """Return whether the child has exited."""
        return self._process.poll() is not None

    def kill(self) -> None:
        """Kill the child; `close` still has to be called."""
        self._process.kill()

    def close(self) -> None:
        """Kill the child if it still runs, wait for it, and close the pipes; may be called twice."""
        with self._changed:
            self._is_closed = self._is_finished = True
            self._changed.notify_all()
        self._process.kill()
        self._process.wait()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _write_all(self) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._outbox or self._is_finished)
                    if not self._outbox or self._is_closed:
                        break
                    parts = self._outbox[0]
                for part in parts:
                    pipe.write(part)
                pipe.flush()
                with self._changed:
                    self._outbox.popleft()
                    self._changed.notify_all()
        except OSError:
            pass  # the child has ended
        with contextlib.suppress(OSError):
            pipe.close()
        with self._changed:
            self._is_broken = True
            self._outbox.clear()
            self._changed.notify_all()

    def _read_all(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        while (message := _read(pipe)) is not None:
            with self._changed:
                if len(message[1]):  # frames wait in the pipe, not in memory
                    self._changed.wait_for(lambda: not self._inbox or self._is_closed)
                self._inbox.append(message)
                self._changed.notify_all()
        with self._changed:
            self._is_silent = True
            self._changed.notify_all()


class ParentPipe:
    """The child's end: messages from the parent, and to it. Made once, before anything prints.

    What else is written to standard output, e.g. by a C library, goes to standard error.
    """

    def __init__(self) -> None:
        self._inlet = os.fdopen(0, "rb", closefd=False)
        self._outlet = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(2, 1)
        self._buffer = bytearray()

    def receive(self) -> Message | None:
        """Return the next message, None at the end; its data is valid until the next call."""
        return _read(self._inlet, self._room)

    def send(self, fields: Mapping[str, Any], data: Data = b"") -> None:
        """Send a message.

        Raises:
            OSError: the parent has ended.
        """
        for part in (encode(fields, data), data):
            rest = memoryview(part)
            while rest:
                rest = rest[self._outlet.write(rest) :]

    def exit_with_parent(self) -> queue.SimpleQueue[dict[str, Any]]:
        """Receive in a thread from now on, and end this process at once when standard input ends.

        Returns:
            The fields of the messages that arrive; their data is discarded.
        """
        messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

        def watch() -> None:
            while (message := self.receive()) is not None:
                messages.put(message[0])
            os._exit(0)

        threading.Thread(target=watch, daemon=True).start()
        return messages

    def _room(self, size: int) -> memoryview:
        if len(self._buffer) < size:
            self._buffer = bytearray(size)
        return memoryview(self._buffer)[:size]
