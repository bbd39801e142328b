"""The server behind the page: hands it out, and reads the pictures that are sent to it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mnist100.models import Model
from mnist100.pictures import NoNumberError, PictureError, PictureTooLargeError, read_picture
from mnist100.reading import read

STATIC = Path(__file__).with_name("static")
MOST_BYTES = 10 << 20
"""Of a picture that is sent; a phone's photograph has 2 to 6 MB."""
TOPK = 5
"""Numbers in an answer."""

# Starlette's words for a body that is too large name neither the picture nor the limit.
_OWN_WORDS = {"Content Too Large": f"picture: wants at most {MOST_BYTES:,} bytes"}
# The client has gone, or the server ends.
_NOBODY_WAITS = (ClientDisconnect, asyncio.CancelledError)
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # a newer version may serve the same address
}


class Reader:
    """A model that answers one question at a time, on a thread of its own.

    The kernels keep threads and scratch memory for each thread that calls them, so it is always the same one.

    Parameters
    ----------
    model
        What reads.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._thread = ThreadPoolExecutor(1, "reader")

    async def answer(self, data: bytes) -> dict[str, Any]:
        """Return what `application` answers to a picture, given the bytes of its file.

        Raises
        ------
        PictureError
            If they are no picture, or a damaged one.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, data)

    def _answer(self, data: bytes) -> dict[str, Any]:
        picture = read_picture(data)
        try:
            (reading,) = read(self._model, [picture])
        except NoNumberError as error:
            return {"state": error.state, "reason": error.reason}
        return {**reading.as_dict(TOPK), "seen": reading.seen.tolist()}


def application(model: Model, hosts: Sequence[str]) -> Starlette:
    """Return the application.

    ``GET /`` is the page. ``POST /read`` takes a picture, the bytes of a PNG, JPEG, WebP, BMP or GIF file. Any picture is
    answered with status 200 and JSON: ``state``, one of

    - ``"number"``: read, one number being more probable than all others together;
    - ``"unsure"``: two digits, but no number is that probable;
    - ``"incomplete"``: one digit so far;
    - ``"no number"``: an empty sheet, or what is no two digits;

    and ``reason``, which says why it is not "number" and is empty if it is. The first two states come with ``label``,
    ``probability``, ``topk`` (a list of such pairs) and ``seen``, the 28×56 pixels that the network was shown.

    What this application refuses is answered with JSON too, an ``error``: with status 422 what is no picture or damaged, 413 what has more
    than `MOST_BYTES` or `mnist100.pictures.MOST_PIXELS`.

    Parameters
    ----------
    model
        What reads.
    hosts
        Names by which a browser may call this server, ``*`` for any: others are turned away, as a page from elsewhere
        may have its name point here.
    """
    reader = Reader(model)

    async def page(_: Request) -> Response:
        return FileResponse(STATIC / "page.html", headers=_HEADERS)

    async def read_sent(request: Request) -> Response:
        # Browsers say where a question comes from; another site's page has none to ask here.
        if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            raise HTTPException(403, "picture: got from another site's page")
        try:
            answer = await reader.answer(await request.body())
        except PictureError as error:
            status = 413 if isinstance(error, PictureTooLargeError) else 422
            raise HTTPException(status, str(error)) from None
        except _NOBODY_WAITS:
            return Response(status_code=503)
        return JSONResponse(answer, headers=_HEADERS)

    return Starlette(
        routes=[
            Route("/", page),
            Route("/read", read_sent, methods=["POST"]),
            Mount("/static", _Files(directory=STATIC)),
        ],
        middleware=[
            Middleware(_ErrorsAsJson),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts)),
            Middleware(RequestBodyLimitMiddleware, max_body_size=MOST_BYTES),
        ],
        exception_handlers={HTTPException: _told, Exception: _failed},
    )


class _Files(StaticFiles):
    """The page's own files, with its headers."""

    def file_response(self, *arguments: Any, **settings: Any) -> Response:
        response = super().file_response(*arguments, **settings)
        response.headers.update(_HEADERS)
        return response


class _ErrorsAsJson:
    """What the inner middleware refuses in plain text, told as JSON like every other error."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = 0  # of an answer in plain text that is held back
        text = b""

        async def send_json(message: Message) -> None:
            nonlocal status, text
            if message["type"] == "http.response.start" and _is_plain_error(message):
                status = message["status"]
            elif not status:
                await send(message)
            else:
                text += message.get("body", b"")
                if not message.get("more_body", False):
                    await _error(status, text.decode())(scope, receive, send)

        await self._app(scope, receive, send_json)


def _is_plain_error(message: Message) -> bool:
    kind = Headers(raw=message["headers"]).get("content-type", "")
    return message["status"] >= 400 and kind.startswith("text/plain")


def _error(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    error = {"error": _OWN_WORDS.get(text, text)}
    return JSONResponse(error, status_code=status, headers={**_HEADERS, **(headers or {})})


async def _told(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, error.detail, error.headers)


async def _failed(_: Request, error: Exception) -> Response:
    return _error(500, f"{type(error).__name__}: {error}")
