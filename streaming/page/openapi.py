"""The OpenAPI 3.1 document of the HTTP API, made from the table of actions."""

from __future__ import annotations

import re
from typing import Any

from runtime.prompts.hints import KINDS as STROKE_KINDS
from runtime.prompts.hints import MAX_POINTS, MAX_RADIUS, MAX_SPEED, MAX_STROKES, MAX_VECTORS
from streaming.control.cues import MAX_DISSOLVE_S
from streaming.page.actions import ACTIONS, Action, ActionField
from streaming.page.uploads import KINDS, MAX_BYTES

_OBJECT = {"type": "object"}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_SPEED = {"type": "number", "minimum": -MAX_SPEED, "maximum": MAX_SPEED}
_STROKE = {
    "kind": {"type": "string", "enum": list(STROKE_KINDS)},
    "radius": {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_RADIUS},
    "points": {
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_POINTS,
        "items": {"type": "array", "prefixItems": [_SHARE, _SHARE], "minItems": 2, "maxItems": 2},
    },
}
_HINTS = {
    "type": "object",
    "properties": {
        "vectors": {
            "type": "array",
            "maxItems": MAX_VECTORS,
            "items": {
                "type": "array",
                "description": "x, y, dx, dy in shares of the frame: what is at x, y moves by dx, dy in a second",
                "prefixItems": [_SHARE, _SHARE, _SPEED, _SPEED],
                "minItems": 4,
                "maxItems": 4,
            },
        },
        "strokes": {
            "type": "array",
            "maxItems": MAX_STROKES,
            "items": {
                "type": "object",
                "properties": _STROKE,
                "required": list(_STROKE),
                "additionalProperties": False,
            },
        },
    },
    "additionalProperties": False,
}
_ERROR = {
    "type": "object",
    "properties": {"error": {"type": "string", "description": "the error in one sentence"}},
    "required": ["error"],
}
_ERRORS = {
    "400": "not valid JSON, or not as long as announced",
    "401": "the token is missing or wrong (only if the page is reachable from other machines)",
    "403": "the request comes from another website",
    "404": "there is no such path, cue or control",
    "405": "the path has other methods",
    "408": "the body did not arrive in time",
    "413": "the body is too large",
    "415": "the body is not a picture that can be read",
    "421": "the server has another name",
    "422": "a value is missing, unknown, of a wrong type or out of range",
    "503": "the show has not begun, or there are too many requests",
}


def describe(title: str, *, has_webrtc: bool) -> dict[str, Any]:
    """Return the document, ready for JSON.

    Args:
        title: of the show.
        has_webrtc: whether the live picture is available through WebRTC, and the page may be the camera.
    """
    paths: dict[str, Any] = {}
    for action in ACTIONS:
        paths.setdefault(action.path, {})[action.method.lower()] = _operation(action)
    paths["/api/state"] = {"get": _get("state", "What can be controlled, and its state.")}
    paths["/api/scenes/{scene}"] = {"get": _thumbnail()}
    paths["/stats"] = {"get": _get("stats", "The show's statistics: frame times, late and dropped frames, sinks.")}
    paths["/api/cues/image"] = {"post": _upload()}
    if has_webrtc:
        paths["/api/webrtc"] = {"post": _webrtc("webrtc", "Answer a WebRTC offer with the live picture.")}
        paths["/api/camera"] = {"post": _webrtc("camera", "Answer a WebRTC offer to be the camera of --input page.")}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Everframe: {title}",
            "version": "1",
            "description": "Controls a show. The WebSocket /api/live takes the same actions as JSON: "
            '{"id": 1, "do": "take", "cue": 3}, answered by {"id": 1, "ok": true, ...} or {"id": 1, "error": "..."}, '
            'and sends {"state": ...} when it changes and {"stats": ...} four times a second.',
        },
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(action: Action) -> dict[str, Any]:
    in_path = [field for field in action.fields if field.is_in_path]
    in_body = [field for field in action.fields if not field.is_in_path]
    operation: dict[str, Any] = {
        "operationId": action.name,
        "summary": action.summary,
        "responses": _responses(action.path),
    }
    if in_path:
        operation["parameters"] = [
            {"name": field.name, "in": "path", "required": True, "schema": _schema(field)} for field in in_path
        ]
        assert {field.name for field in in_path} == set(re.findall(r"{(\w+)}", action.path)), action.path
    if in_body:
        schema = {
            "type": "object",
            "properties": {field.name: _schema(field) for field in in_body},
            "required": [field.name for field in in_body if field.is_required],
            "additionalProperties": False,
        }
        if {"text", "seed"} <= {field.name for field in in_body}:
            schema["anyOf"] = [{"required": [part]} for part in ("text", "seed", "scene")]
        is_required = any(field.is_required for field in in_body) or "anyOf" in schema
        operation["requestBody"] = {"required": is_required, "content": {"application/json": {"schema": schema}}}
    return operation


def _schema(field: ActionField) -> dict[str, Any]:
    if field.type == "object":
        return {"description": field.description, **_HINTS}
    ends = ("minLength", "maxLength") if field.type == "string" else ("minimum", "maximum")
    limits = dict(zip(ends, (field.minimum, field.maximum), strict=True))
    default = {} if field.default is None else {"default": field.default}
    return {"type": field.type, "description": field.description, **limits, **default}


def _get(name: str, summary: str) -> dict[str, Any]:
    return {"operationId": name, "summary": summary, "responses": _responses("")}


def _thumbnail() -> dict[str, Any]:
    name = {"type": "string", "minLength": 1, "maxLength": 40}
    picture = {"description": "done", "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}
    return {
        "operationId": "thumbnail",
        "summary": "A small picture of one of the state's scenes.",
        "parameters": [{"name": "scene", "in": "path", "required": True, "schema": name}],
        "responses": {**_responses(""), "200": picture},
    }


def _upload() -> dict[str, Any]:
    label = {"type": "string", "maxLength": 200}
    dissolve = {"type": "number", "minimum": 0, "maximum": MAX_DISSOLVE_S}
    return {
        "operationId": "image",
        "summary": f"Prepare a scene from a picture of at most {MAX_BYTES // 2**20} MiB.",
        "parameters": [
            {"name": "label", "in": "query", "schema": label, "description": "name of the cue"},
            {
                "name": "dissolve_s",
                "in": "query",
                "schema": dissolve,
                "description": "length of the cross-fade if it is taken as soon as it is ready; left out, it waits",
            },
            {"name": "hints", "in": "query", "content": {"application/json": {"schema": _HINTS}}},
        ],
        "requestBody": {
            "required": True,
            "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in KINDS},
        },
        "responses": _responses("/api/cues/image"),
    }


def _webrtc(name: str, summary: str) -> dict[str, Any]:
    text = {"type": "string", "maxLength": 2**16}
    schema = {
        "type": "object",
        "properties": {"sdp": text, "type": {"type": "string", "enum": ["offer"]}},
        "required": ["sdp", "type"],
    }
    return {
        "operationId": name,
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": _responses(f"/api/{name}"),
    }


def _responses(path: str) -> dict[str, Any]:
    done = "201" if path in ("/api/cues", "/api/prompt", "/api/cues/image", "/api/input/animate") else "200"
    answers: dict[str, Any] = {
        done: {"description": "done", "content": {"application/json": {"schema": _OBJECT}}},
    }
    for status, why in _ERRORS.items():
        answers[status] = {"description": why, "content": {"application/json": {"schema": _ERROR}}}
    return answers
