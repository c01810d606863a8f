"""The child process that paints pictures for a show, so that they share neither memory nor Python's lock with it.

python -m streaming.painting.painter_child      (started by `streaming.painting.painter`)

The first message has bundle, engine, threads and idle_s (see `LowPriority`). It sends {"engine": NAME} once the bundle
is open. For each message {"paint": {...}} with text, seed and controls it sends frames: {"frame": N, "width": W,
"height": H, "is_complete": BOOL, "note": TEXT} with height x width x 3 bytes of RGB; the note says what of the text was
not read. After a frame that is not complete it waits for {"go_on": true}, or for another picture, for which it leaves
this one. {"error": REASON} stands for a picture that cannot be painted, or for a bundle that cannot be opened; then it
ends. If the parent ends, it ends at once, whatever it does.
"""

from __future__ import annotations

from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from streaming.painting.low_priority import LowPriority
from streaming.process.child import ParentPipe

if TYPE_CHECKING:
    from runtime.painting import PicturePainter


def main() -> None:
    """Open the bundle, then paint what the parent asks for until it ends."""
    parent = ParentPipe()
    if (message := parent.receive()) is None:
        return
    messages = parent.exit_with_parent()
    with suppress(OSError):  # the parent has ended
        _serve(parent, message[0], messages)


def _serve(parent: ParentPipe, fields: dict[str, Any], messages: SimpleQueue[dict[str, Any]]) -> None:
    priority = LowPriority(fields["idle_s"])
    known: tuple[type[Exception], ...] = (ValueError,)
    try:
        with priority:  # importing takes seconds of a core, too
            from runtime import BundleError, EngineError
            from runtime.painting import PicturePainter

            known = (ValueError, BundleError, EngineError)
            painter = PicturePainter.open(fields["bundle"], engine=fields["engine"], threads=fields["threads"])
    except Exception as error:  # noqa: BLE001 - the parent says it
        parent.send({"error": _reason(error, known)})
        return
    with painter:
        parent.send({"engine": f"{painter.generator.engine} {painter.generator.precision}"})
        job = _next_job(messages)
        while True:
            try:
                with priority:
                    following = _paint(painter, job, parent, messages)
            except OSError:  # the parent has ended
                return
            except Exception as error:  # noqa: BLE001 - the next picture may succeed
                parent.send({"error": _reason(error, known)})
                following = None
            job = _next_job(messages) if following is None else following


def _paint(
    painter: PicturePainter, job: dict[str, Any], parent: ParentPipe, messages: SimpleQueue[dict[str, Any]]
) -> dict[str, Any] | None:
    """Send the frames of a picture; return what is to be painted instead if it was left, else None."""
    for frame in painter.paint(**job):
        height, width = frame.picture.shape[:2]
        about = {"frame": frame.number, "width": width, "height": height, "is_complete": frame.is_complete}
        scene = painter.generator.scene
        about["note"] = "" if scene is None else scene.note
        parent.send(about, frame.picture.data.cast("B"))
        if not frame.is_complete and (following := _next_job(messages)):
            return following
    return None


def _next_job(messages: SimpleQueue[dict[str, Any]]) -> dict[str, Any]:
    """Return what to paint next, {} to go on with the picture."""
    job: dict[str, Any] = messages.get().get("paint", {})
    return job


def _reason(error: Exception, known: tuple[type[Exception], ...]) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    return " ".join(str(error).split()) if isinstance(error, known) else f"internal error: {error!r}"


if __name__ == "__main__":
    main()
