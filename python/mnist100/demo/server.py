"""The server behind the page: hands it out, and reads the pictures that are sent to it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from mnist100.models import Model
from mnist100.pictures import PictureError, read_picture
from mnist100.reading import read

STATIC = Path(__file__).with_name("static")
MOST_BYTES = 10 << 20
"""Of a picture that is sent; a phone's photograph has 2 to 6 MB."""
TOPK = 5
"""Numbers in an answer."""

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
        """Read a picture, the bytes of its file.

        Raises
        ------
        PictureError
            If it is none, or does not show two digits.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, data)

    def _answer(self, data: bytes) -> dict[str, Any]:
        (reading,) = read(self._model, [read_picture(data)])
        return {**reading.as_dict(TOPK), "seen": reading.seen.tolist()}


def application(model: Model, hosts: Sequence[str]) -> Starlette:
    """Return the application.

    ``GET /`` is the page. ``POST /read`` takes a picture, the bytes of a PNG, JPEG, WebP, BMP or GIF file, and answers with
    JSON: ``label``, ``probability``, ``topk`` (a list of such pairs) and ``seen``, the 28×56 pixels that the network
    was shown; or with ``error`` and status 422 (no picture, no two digits). More than `MOST_BYTES` is refused with 413.

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
            raise HTTPException(422, str(error)) from None
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


async def _told(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = {**_HEADERS, **(error.headers or {})}
    return JSONResponse({"error": error.detail}, status_code=error.status_code, headers=headers)


async def _failed(_: Request, error: Exception) -> Response:
    text = f"{type(error).__name__}: {error}"
    return JSONResponse({"error": text}, status_code=500, headers=_HEADERS)
