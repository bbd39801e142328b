"""``mnist100 serve``: the real server, asked over a socket."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import numpy as np
import pytest
from PIL import Image

import mnist100
from commands import assert_one_line, killed_if_it_hangs, mnist_here
from mnist100.demo import server
from mnist100.models import Model
from mnist100.pictures import MOST_PIXELS
from mnist100.reading import SURE, read
from support import PATIENCE
from test_predict import sheet


@contextmanager
def serving(model: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], int, str]]:
    """A server of its own process: the process, its port and the line that it printed."""
    command = [sys.executable, "-m", "mnist100", "serve", str(model), "--port", "0", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            with killed_if_it_hangs(process):
                line = process.stdout.readline()
                found = re.search(r":(\d+)/ ", line)
                assert found, (line, process.communicate())
            yield process, int(found[1]), line
        finally:
            process.kill()


@pytest.fixture(scope="module")
def port(_saved_once: Path) -> Iterator[int]:
    with serving(_saved_once, "--threads", "2") as (_, port, _):
        yield port


def ask(
    port: int,
    method: str,
    path: str,
    body: bytes | Iterable[bytes] | None = None,
    **headers: str,
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def png(picture: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def test_the_page_and_its_files(port: int) -> None:
    status, headers, body = ask(port, "GET", "/")
    assert status == 200
    assert headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in headers["content-security-policy"]
    for name in re.findall(r'(?:src|href)="([^"]+)"', body.decode()):
        status, headers, content = ask(port, "GET", f"/{name}")
        assert (status, len(content) > 0) == (200, True), name
        assert "default-src 'self'" in headers["content-security-policy"]


def test_a_picture_is_read_as_the_model_reads_it(port: int, saved: Path) -> None:
    status, headers, body = ask(port, "POST", "/read", png(sheet(20)))
    assert (status, headers["content-type"]) == (200, "application/json")
    (expected,) = read(mnist100.load_model(saved), [sheet(20)])
    found = json.loads(body)
    assert found == {**expected.as_dict(server.TOPK), "seen": expected.seen.tolist()}
    assert len(found["topk"]) == 5
    assert np.shape(found["seen"]) == (28, 56)


def test_many_pictures_at_once_are_read_as_one_by_one(port: int) -> None:
    pictures = [png(sheet(gap)) for gap in range(10, 60, 5)]
    one_by_one = [ask(port, "POST", "/read", picture)[2] for picture in pictures]
    with ThreadPoolExecutor(len(pictures)) as pool:
        at_once = list(pool.map(lambda picture: ask(port, "POST", "/read", picture)[2], pictures))
    assert at_once == one_by_one


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not a picture"),
        (b"42", "not a picture"),
        (png(sheet(20))[:200], "damaged picture"),
    ],
)
def test_what_cannot_be_read_is_told(port: int, body: bytes, words: str) -> None:
    assert words in error_of(ask(port, "POST", "/read", body), 422)


@pytest.mark.parametrize(
    ("picture", "state", "words"),
    [
        (np.full((9, 9), 5, np.uint8), "no number", "got no ink, wants two digits"),
        (np.zeros((280, 560), np.uint8), "no number", "got no ink, wants two digits"),
        (sheet(20)[:, :200], "incomplete", "got ink in one piece, wants two digits"),
        (np.eye(28, 56, dtype=np.uint8) * 255, "incomplete", "got ink in one half"),
        (np.tile(sheet(20)[:, 60:140], (1, 3)), "no number", "got 3 digits, wants two digits"),
        (np.pad(np.zeros((90, 190), np.uint8), 5, constant_values=255), "no number", "more ink"),
    ],
    ids=["paper", "empty", "one digit", "half of 28x56", "three digits", "blot"],
)
def test_a_picture_without_a_number_yet_is_an_answer_too(
    port: int, picture: Any, state: str, words: str
) -> None:
    status, headers, body = ask(port, "POST", "/read", png(picture))
    assert (status, headers["content-type"]) == (200, "application/json")
    found = json.loads(body)
    assert set(found) == {"state", "reason"}
    assert found["state"] == state
    assert words in found["reason"]


def error_of(found: tuple[int, http.client.HTTPMessage, bytes], status: int) -> str:
    """The error that an answer tells, as JSON, with the status that it should have."""
    assert (found[0], found[1]["content-type"]) == (status, "application/json")
    value = json.loads(found[2])
    assert list(value) == ["error"]
    return str(value["error"])


def test_what_is_too_large_is_told(port: int) -> None:
    wants = f"wants at most {server.MOST_BYTES:,} bytes"
    assert wants in error_of(ask(port, "POST", "/read", bytes(server.MOST_BYTES + 1)), 413)
    chunks = (bytes(1 << 20) for _ in range(1 + (server.MOST_BYTES >> 20)))  # of unknown length
    assert wants in error_of(ask(port, "POST", "/read", chunks), 413)
    large = png(np.zeros((1, MOST_PIXELS + 1), np.uint8))
    assert f"wants at most {MOST_PIXELS:,} pixels" in error_of(
        ask(port, "POST", "/read", large), 413
    )


def test_what_is_wrong_with_a_request_is_told(port: int) -> None:
    error_of(ask(port, "GET", "/read"), 405)
    error_of(ask(port, "POST", "/", b""), 405)
    for path in (
        "/none",
        "/static/none",
        "/static/",
        "/static/../server.py",
        "/static/%2e%2e/server.py",
    ):
        error_of(ask(port, "GET", path), 404)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:1234", 200),
        ("[::1]:80", 200),
        ("LOCALHOST:8000", 200),
        ("elsewhere.example", 400),
        ("localhost.elsewhere.example", 400),
        ("", 400),
    ],
)
def test_only_this_machines_names_are_answered(port: int, host: str, status: int) -> None:
    found = ask(port, "GET", "/", Host=host)
    assert found[0] == status
    assert status == 200 or error_of(found, 400) == "Invalid host header"


@pytest.mark.parametrize(
    ("site", "status"),
    [("same-origin", 200), ("none", 200), ("cross-site", 403), ("same-site", 403)],
)
def test_another_sites_page_cannot_ask(port: int, site: str, status: int) -> None:
    headers = {"Sec-Fetch-Site": site}
    assert ask(port, "POST", "/read", png(sheet(20)), **headers)[0] == status


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706434", "localhost", "::1", "[::1]"])
def test_the_printed_address_is_answered(host: str, saved: Path) -> None:
    with serving(saved, "--host", host) as (_, port, line):
        found = re.search("http://([^ ]+)/ ", line)
        assert found
        address = found[1].rsplit(":", 1)[0].strip("[]")
        connection = http.client.HTTPConnection(address, port, timeout=PATIENCE)
        for name in (found[1], f"{host}:{port}" if host[:1] != ":" else f"[{host}]:{port}"):
            connection.request("GET", "/", headers={"Host": name})
            response = connection.getresponse()
            response.read()
            assert response.status == 200, name
            connection.close()  # the server may, after a while; the next request opens it again


def answered_by(predict_proba: Callable[[object], Any]) -> tuple[int, dict[str, Any]]:
    """What the application answers to a picture of two digits, given what the model does, and with which status."""
    model = SimpleNamespace(predict_proba=predict_proba)
    app = server.application(cast(Model, model), ["*"])
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": png(sheet(20)), "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/read",
        "root_path": "",
        "headers": [(b"host", b"x")],
    }
    scope |= {"query_string": b"", "http_version": "1.1", "scheme": "http", "server": ("x", 80)}
    with suppress(ZeroDivisionError):  # told, and passed on to the server's log
        asyncio.run(app(scope, receive, send))
    return sent[0]["status"], json.loads(sent[1]["body"])


def test_what_fails_within_is_told_as_json() -> None:
    def broken(_: object) -> NoReturn:
        raise ZeroDivisionError("by design")

    assert answered_by(broken) == (500, {"error": "ZeroDivisionError: by design"})


@pytest.mark.parametrize(
    ("probability", "state"),
    [(SURE, "number"), (np.nextafter(np.float32(SURE), np.float32(0)), "unsure")],
)
def test_a_number_is_more_probable_than_all_others_together(probability: float, state: str) -> None:
    chances = np.full((1, 100), (1 - probability) / 99, np.float32)
    chances[0, 7] = probability
    status, found = answered_by(lambda _: chances)
    assert (status, found["state"], found["label"]) == (200, state, 7)
    reason = "07 is the most probable, but only at 50.0 %"
    assert found["reason"] == ("" if state == "number" else reason)
    assert len(found["topk"]) == 5
    assert np.shape(found["seen"]) == (28, 56)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_a_signal_ends_it(number: signal.Signals, code: int, saved: Path) -> None:
    with serving(saved) as (process, port, _):
        assert ask(port, "GET", "/")[0] == 200
        process.send_signal(number)
        out, error = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out) == (code, "")
        assert error == "mnist100: interrupted: the page is closed\n"


@pytest.mark.parametrize("signals", [1, 2])
def test_an_unfinished_request_does_not_keep_it(signals: int, saved: Path) -> None:
    with (
        serving(saved) as (process, port, _),
        socket.create_connection(("127.0.0.1", port), PATIENCE) as idle,
        socket.create_connection(("127.0.0.1", port), PATIENCE) as one,
    ):
        one.sendall(b"POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1")
        assert ask(port, "GET", "/")[0] == 200  # so the half request before it has arrived too
        process.send_signal(signal.SIGINT)
        assert idle.recv(1) == b""  # closed: the signal has arrived
        for _ in range(signals - 1):
            process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=PATIENCE)
        assert (process.returncode, error) == (130, "mnist100: interrupted: the page is closed\n")


def test_a_client_that_gives_up_leaves_no_trace(saved: Path) -> None:
    with serving(saved) as (process, port, _):
        with socket.create_connection(("127.0.0.1", port)) as one:
            one.sendall(b"POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1")
        assert ask(port, "GET", "/")[0] == 200
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=PATIENCE) == (
            "",
            "mnist100: interrupted: the page is closed\n",
        )


def test_says_when_other_machines_are_let_in(saved: Path) -> None:
    with serving(saved, "--host", "0.0.0.0") as (process, port, line):
        assert line == f"{saved} reads numbers at http://0.0.0.0:{port}/ (Ctrl-C ends it)\n"
        assert process.stdout is not None
        with killed_if_it_hangs(process):
            line = process.stdout.readline()
        assert line == "Any machine that reaches this one can use it\n"
        assert ask(port, "GET", "/", Host="elsewhere.example")[0] == 200


def test_what_it_cannot_serve_is_told(saved: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = mnist_here("serve", saved, "--port", str(port))
        assert_one_line(found, 1, f"127.0.0.1:{port}: Address already in use; give", "--port")
    found = mnist_here("serve", saved, "--host", "no.such.host.invalid")
    assert_one_line(found, 1, "no.such.host.invalid:8000: ", "--host")
    assert_one_line(mnist_here("serve", tmp_path / "run"), 1, "run: no such run folder")
    assert_one_line(mnist_here("serve", saved, "--port", "70000"), 2, "--port", "from 0 to 65535")
    assert_one_line(mnist_here("serve", saved, "--host", " "), 2, "--host")
    assert_one_line(mnist_here("serve", saved, "--host", "a" * 70 + ".x"), 1, "--host")
