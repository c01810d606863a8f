"""The signalling of WHIP (RFC 9725): an HTTP POST with an offer, and a DELETE at the end."""

from __future__ import annotations

import http.client
import ssl
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

_TIMEOUT_S = 4.0  # less than CONNECT_S, so that the server's reason is reported
_MAX_REDIRECTS = 3
_MAX_ANSWER_BYTES = 2**18
_REDIRECTS = (301, 302, 307, 308)  # a WHIP client repeats the POST after each of them


@dataclass(frozen=True)
class WhipSession:
    """A stream that a server has accepted.

    Args:
        answer: SDP.
        url: to DELETE at the end; "" if the server gave none.
        token: for that request.
    """

    answer: str = field(repr=False)
    url: str = field(repr=False)
    token: str = field(default="", repr=False)


def publish(url: str, offer: str, token: str = "") -> WhipSession:
    """Offer a stream.

    Args:
        url: https:// or http://, of the endpoint.
        offer: SDP with all its candidates.
        token: sent as "Authorization: Bearer"; not sent to other hosts after a redirect.

    Raises:
        OSError: the server cannot be reached, or refuses; the message may contain parts of the URL.
    """
    for _ in range(_MAX_REDIRECTS + 1):
        status, reason, headers, body = _request("POST", url, token, offer)
        place = headers.get("location", "")
        if status not in _REDIRECTS or not place:
            break
        url, before = urljoin(url, place), urlsplit(url)
        after = urlsplit(url)
        if after.scheme not in ("http", "https") or (before.scheme == "https" and after.scheme != "https"):
            raise ConnectionError("the server redirects to an unencrypted address")
        token = token if after.netloc == before.netloc else ""
    if status != 201:
        raise ConnectionError(f"the server refused the stream ({status} {reason})")
    if not body.startswith("v=0"):
        raise ConnectionError("the server accepted the stream without a session description (SDP)")
    resource = urljoin(url, place) if place else ""
    is_same = urlsplit(resource).netloc == urlsplit(url).netloc
    return WhipSession(body, resource, token if is_same else "")


def leave(session: WhipSession) -> None:
    """Send the DELETE that ends the stream.

    Raises:
        OSError: the request failed.
    """
    if session.url:
        _request("DELETE", session.url, session.token)


def _request(method: str, url: str, token: str, sdp: str = "") -> tuple[int, str, dict[str, str], str]:
    parts = urlsplit(url)
    connection = (
        http.client.HTTPSConnection(parts.netloc, timeout=_TIMEOUT_S, context=ssl.create_default_context())
        if parts.scheme == "https"
        else http.client.HTTPConnection(parts.netloc, timeout=_TIMEOUT_S)
    )
    headers = {"Content-Type": "application/sdp"} if sdp else {}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        connection.request(method, parts._replace(scheme="", netloc="", fragment="").geturl() or "/", sdp, headers)
        answer = connection.getresponse()
        body = answer.read(_MAX_ANSWER_BYTES).decode(errors="replace")
        return answer.status, answer.reason, {name.lower(): value for name, value in answer.getheaders()}, body
    except http.client.HTTPException as error:
        raise ConnectionError(f"the server does not speak HTTP ({type(error).__name__})") from error
    finally:
        connection.close()
