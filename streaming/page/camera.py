"""The route by which a browser on the page becomes the show's camera: `--input page`."""

from __future__ import annotations

import re
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from streaming.control.controller import ShowController
from streaming.inputs.page_camera import MAX_OFFERS, PageCamera
from streaming.page.actions import read_json
from streaming.page.api import MAX_JSON_BYTES, read_body, refuse
from streaming.page.connections import Limits
from streaming.page.webrtc import read_offer, to_words


def camera_route(controller: ShowController, limits: Limits, *, is_local: bool) -> Route:
    """Return the route that takes browsers' offers to be the camera; belongs to one event loop.

    Args:
        controller: of the show.
        limits: how long an offer may take to arrive.
        is_local: whether only this machine can reach the page.
    """
    num_waiting = 0

    async def answer(request: Request) -> Response:
        nonlocal num_waiting
        try:
            offer = check(read_json(await read_body(request, MAX_JSON_BYTES, limits)))
        except ValueError as error:
            return refuse(422, str(error))
        camera = controller.input
        if not isinstance(camera, PageCamera):
            if controller.state()["is_ready"]:
                return refuse(404, "this show takes no camera from the page: start it with --input page")
            return refuse(503, "the show has not begun; try again in a moment")
        if num_waiting >= MAX_OFFERS:  # at once: each takes a moment
            return refuse(503, "too many devices want to be the camera: try again in a moment")
        num_waiting += 1
        try:
            number, sdp = await run_in_threadpool(camera.answer, offer, is_local=is_local)
        except ValueError as error:
            return refuse(422, f"the offer cannot be answered: {error}")
        finally:
            num_waiting -= 1
        return JSONResponse({"type": "answer", "sdp": sdp, "id": number})

    return Route("/api/camera", answer, methods=["POST"])


def check(given: Any) -> str:
    """Return the SDP of an offer to be the camera.

    Raises:
        ValueError: it is not an offer, or does not send one video and at most one sound.
    """
    sdp, media = read_offer(given)
    if sorted(media) not in (["video"], ["audio", "video"]):
        raise ValueError(f"a camera sends one video, and at most one sound; this offer has {to_words(media)}")
    if found := re.search(r"(?m)^a=(recvonly|inactive)\b", sdp):
        raise ValueError(f"a camera's offer is sendonly, this one is {found[1]}")
    return sdp
