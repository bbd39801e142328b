"""Where digits come from: the order of the places, the downloads, and the embedded digits."""

from __future__ import annotations

import gzip
import hashlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pooch
import pytest

from mnist100.data import (
    DataError,
    DigitSet,
    DownloadError,
    Source,
    digits8x8,
    download,
    load_source,
)
from mnist100.data.idx import header
from support import PATIENCE

TRAIN = 12
IMAGES = np.arange(TRAIN * 28 * 28).astype(np.uint8).reshape(TRAIN, 28, 28)
LABELS = np.arange(TRAIN).astype(np.uint8) % 10
FILES = {
    "train-images-idx3-ubyte": header(IMAGES) + IMAGES.tobytes(),
    "train-labels-idx1-ubyte": header(LABELS) + LABELS.tobytes(),
    "t10k-images-idx3-ubyte": header(IMAGES[:4]) + IMAGES[:4].tobytes(),
    "t10k-labels-idx1-ubyte": header(LABELS[:4]) + LABELS[:4].tobytes(),
}
NAMES = list(FILES)
ANSWER_SECONDS = download.ANSWER_SECONDS  # before the tests have more patience
DIGITS_SHA256 = "28b4c04d83ecdcab104dc13661d307ec5e2a1ad3192ae7b943c45fe314054d0a"


class Mirror:
    """A web server on this machine. ``bodies`` maps a path to what is sent; the rest is 404."""

    def __init__(self) -> None:
        self.bodies = {f"/{name}.gz": gzip.compress(data) for name, data in FILES.items()}
        self.gets: list[str] = []
        self.head_waits = False
        self.body_waits = False
        self.released = threading.Event()
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                if mirror.head_waits:
                    mirror.released.wait()
                self.begin()

            def do_GET(self) -> None:
                mirror.gets.append(self.path)
                body = self.begin()
                if mirror.body_waits:
                    self.wfile.write(body[:20])
                    self.wfile.flush()
                    mirror.released.wait()
                else:
                    self.wfile.write(body)

            def begin(self) -> bytes:
                body = mirror.bodies.get(self.path)
                self.send_response(200 if body is not None else 404)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                return body or b""

            def log_message(self, *_: object) -> None:
                """Be quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # A client that gave up is no error of the server's.
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no MNIST100_DATA, no proxy, checksums of the small files, and patience with mirrors."""
    folder = tmp_path / "cache" / "mnist100"
    monkeypatch.setattr(pooch, "os_cache", lambda project: folder.parent / project)
    monkeypatch.delenv("MNIST100_DATA", raising=False)
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(variable, "127.0.0.1")
    checksums = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    monkeypatch.setattr(download, "SHA256", checksums)
    for limit in ("ANSWER_SECONDS", "STALL_SECONDS"):
        monkeypatch.setattr(download, limit, PATIENCE)
    return folder


@pytest.fixture
def new_mirror() -> Iterator[Callable[[], Mirror]]:
    mirrors: list[Mirror] = []

    def start() -> Mirror:
        mirrors.append(Mirror())
        return mirrors[-1]

    yield start
    for mirror in mirrors:
        mirror.close()


@pytest.fixture
def dead_url() -> Iterator[str]:
    """An address where nobody listens, nor can begin to."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}/"


@pytest.fixture
def mirrors(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the addresses that are tried."""
    return lambda *urls: monkeypatch.setattr(download, "MIRRORS", urls)


def write_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in FILES.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(data))
    return folder


def assert_is_small_mnist(source: Source) -> None:
    assert isinstance(source.train, DigitSet)
    assert isinstance(source.test, DigitSet)
    np.testing.assert_array_equal(source.train.images, IMAGES)
    np.testing.assert_array_equal(source.train.labels, LABELS)
    np.testing.assert_array_equal(source.test.images, IMAGES[:4])
    np.testing.assert_array_equal(source.test.labels, LABELS[:4])
    assert source.repeats == 1
    assert source.default_dev_size == TRAIN // 6
    assert source.notice is None


def assert_holds_only_whole_files(cache: Path) -> None:
    found = {path.name: gzip.decompress(path.read_bytes()) for path in cache.iterdir()}
    assert all(FILES[name.removesuffix(".gz")] == data for name, data in found.items())


# --- the order of the places


def test_a_path_is_read_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNIST100_DATA", str(tmp_path / "nowhere"))
    folder = write_folder(tmp_path / "given")
    for dataset in (folder, str(folder)):
        source = load_source(dataset)
        assert_is_small_mnist(source)
        assert source.name == str(folder)


def test_a_folder_called_like_a_built_in_data_set_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "digits")
    monkeypatch.chdir(tmp_path)
    assert load_source("./digits").name == "./digits"


@pytest.mark.parametrize("dataset", ["auto", "mnist"])
def test_the_environment_comes_before_cache_and_download(
    dataset: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(cache)
    (cache / f"{NAMES[0]}.gz").write_bytes(b"not looked at")
    monkeypatch.setenv("MNIST100_DATA", str(write_folder(tmp_path / "own")))
    source = load_source(dataset)
    assert_is_small_mnist(source)
    assert source.name == "mnist"


@pytest.mark.parametrize("dataset", ["auto", "mnist"])
def test_a_broken_environment_is_an_error(
    dataset: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(cache)
    folder = write_folder(tmp_path / "own")
    monkeypatch.setenv("MNIST100_DATA", str(folder))
    (folder / f"{NAMES[3]}.gz").write_bytes(b"")
    with pytest.raises(DataError, match=rf"MNIST100_DATA: .*{NAMES[3]}.gz: ends .*unset it"):
        load_source(dataset)
    (folder / f"{NAMES[3]}.gz").unlink()
    with pytest.raises(DataError, match=f"MNIST100_DATA: .* has no {NAMES[3]}"):
        load_source(dataset)
    monkeypatch.setenv("MNIST100_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"MNIST100_DATA: .*no such folder"):
        load_source(dataset)


@pytest.mark.parametrize("dataset", ["auto", "mnist"])
def test_a_full_cache_needs_no_network(
    dataset: str, cache: Path, mirrors: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrors()
    monkeypatch.setenv("MNIST100_DATA", "")
    write_folder(cache)
    assert_is_small_mnist(load_source(dataset))


@pytest.mark.parametrize("dataset", ["nonsense", ""])
def test_a_name_that_means_nothing_is_refused(dataset: str) -> None:
    with pytest.raises(DataError, match=rf"dataset: got '{dataset}'.*auto, mnist"):
        load_source(dataset)


def test_progress_must_be_callable() -> None:
    with pytest.raises(TypeError, match="progress: got bool True"):
        load_source("digits", progress=True)  # type: ignore[arg-type]


# --- downloads


def test_a_download_fills_the_cache(
    cache: Path, new_mirror: Callable[[], Mirror], mirrors: Callable[..., None]
) -> None:
    first, second = new_mirror(), new_mirror()
    mirrors(first.url, second.url)
    steps: list[tuple[str, int, int]] = []
    assert_is_small_mnist(load_source("mnist", progress=lambda *step: steps.append(step)))
    assert sorted(path.name for path in cache.iterdir()) == sorted(f"{n}.gz" for n in NAMES)
    assert_holds_only_whole_files(cache)
    assert second.gets == []
    for name in NAMES:
        size = len(first.bodies[f"/{name}.gz"])
        assert [step for step in steps if step[0] == name][-1] == (name, size, size)

    assert_is_small_mnist(load_source("auto"))
    assert len(first.gets) == len(NAMES)


def test_only_what_is_missing_or_damaged_is_downloaded(
    cache: Path, new_mirror: Callable[[], Mirror], mirrors: Callable[..., None]
) -> None:
    mirror = new_mirror()
    mirrors(mirror.url)
    write_folder(cache)
    (cache / f"{NAMES[1]}.gz").unlink()
    # Whole and readable, but not what was published.
    other = header(IMAGES[:4]) + IMAGES[4:8].tobytes()
    (cache / f"{NAMES[2]}.gz").write_bytes(gzip.compress(other))
    assert_is_small_mnist(load_source("mnist"))
    assert mirror.gets == [f"/{NAMES[1]}.gz", f"/{NAMES[2]}.gz"]
    assert_holds_only_whole_files(cache)


BAD_BODIES = {
    "missing": None,
    "not gzip": b"<html>Log in to this network</html>",
    "cut short": gzip.compress(FILES[NAMES[0]])[:-20],
    "other images": gzip.compress(header(IMAGES) + IMAGES[::-1].tobytes()),
}


@pytest.mark.parametrize("spoilt", [NAMES[0], NAMES[2]])
@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
def test_where_one_mirror_fails_the_next_carries_on(
    cache: Path,
    new_mirror: Callable[[], Mirror],
    mirrors: Callable[..., None],
    spoilt: str,
    body: bytes | None,
) -> None:
    first, second = new_mirror(), new_mirror()
    mirrors(first.url, second.url)
    del first.bodies[f"/{spoilt}.gz"]
    if body is not None:
        first.bodies[f"/{spoilt}.gz"] = body
    assert_is_small_mnist(load_source("mnist"))
    assert_holds_only_whole_files(cache)
    # What the first mirror sent well is not fetched again.
    assert second.gets == [f"/{name}.gz" for name in NAMES[NAMES.index(spoilt) :]]


def test_a_dead_mirror_is_passed_over(
    cache: Path,
    new_mirror: Callable[[], Mirror],
    mirrors: Callable[..., None],
    dead_url: str,
) -> None:
    mirrors(dead_url, new_mirror().url)
    assert_is_small_mnist(load_source("auto"))


def with_patience_for(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this mirror take longer than `STALL_SECONDS`, as a busy machine may need."""
    original = download._http

    def http(**options: Any) -> Any:
        downloader = original(**options)

        def get(url: str, *arguments: Any, **settings: Any) -> Any:
            if url.startswith(mirror.url):
                downloader.kwargs["timeout"] = PATIENCE
            return downloader(url, *arguments, **settings)

        return get

    monkeypatch.setattr(download, "_http", http)


@pytest.mark.parametrize("waiting", ["head_waits", "body_waits"])
def test_a_mirror_that_keeps_us_waiting_is_passed_over(
    cache: Path,
    new_mirror: Callable[[], Mirror],
    mirrors: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    waiting: str,
) -> None:
    first, second = new_mirror(), new_mirror()
    setattr(first, waiting, True)
    monkeypatch.setattr(download, "STALL_SECONDS", 1.0)
    with_patience_for(second, monkeypatch)
    mirrors(first.url, second.url)
    assert_is_small_mnist(load_source("mnist"))
    assert_holds_only_whole_files(cache)
    assert len(second.gets) == len(NAMES)


def test_a_mirror_that_sends_without_end_is_cut_off(
    cache: Path,
    new_mirror: Callable[[], Mirror],
    mirrors: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(download, "_MOST_BYTES", 1 << 18)
    mirror = new_mirror()
    mirror.bodies[f"/{NAMES[0]}.gz"] = bytes(1 << 20)
    mirrors(mirror.url)
    with pytest.raises(DownloadError, match=f"sent more than 262144 bytes for {NAMES[0]}.gz"):
        load_source("mnist")
    assert list(cache.iterdir()) == []


def test_a_network_that_swallows_everything_costs_one_short_wait(
    cache: Path, mirrors: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What users get: half of the ten seconds that they may be kept waiting.
    assert ANSWER_SECONDS <= 5
    # As when looking up a name hangs: no time-out of the transport applies.
    released = threading.Event()
    monkeypatch.setattr(download, "ANSWER_SECONDS", 0.3)
    answered: list[bool] = []
    monkeypatch.setattr(download, "_ask", lambda *_: answered.append(released.wait(PATIENCE)))
    mirrors("http://first.invalid/", "http://second.invalid/")
    try:
        with pytest.raises(DownloadError, match=r"first.*no answer in 0.3 s; .*second.*no answer"):
            load_source("mnist")
        assert answered == []  # nobody waited for the look-ups, which still hang
    finally:
        released.set()


# --- no network


def test_mnist_never_falls_back(cache: Path, mirrors: Callable[..., None], dead_url: str) -> None:
    mirrors(dead_url)
    with pytest.raises(DownloadError, match=r"ConnectionError.*MNIST100_DATA.*'digits'"):
        load_source("mnist")


def test_auto_falls_back_and_says_so(
    cache: Path, mirrors: Callable[..., None], dead_url: str
) -> None:
    mirrors(dead_url)
    source = load_source("auto")
    assert source.name == "digits"
    assert source.notice is not None
    assert "digits" in source.notice
    assert "\n" not in source.notice


def test_a_damaged_cache_file_is_named_when_it_cannot_be_replaced(
    cache: Path, mirrors: Callable[..., None], dead_url: str
) -> None:
    mirrors(dead_url)
    path = write_folder(cache) / f"{NAMES[0]}.gz"
    path.write_bytes(b"spoilt")
    with pytest.raises(DownloadError, match=f"{path}: damaged"):
        load_source("mnist")
    assert load_source("auto").name == "digits"


def test_a_cache_that_cannot_be_made_is_named(
    cache: Path, new_mirror: Callable[[], Mirror], mirrors: Callable[..., None]
) -> None:
    mirrors(new_mirror().url)
    cache.parent.mkdir()
    cache.write_text("a file where the folder belongs")
    with pytest.raises(DownloadError, match=rf"cache {cache} cannot be written"):
        load_source("mnist")


# --- the embedded digits


def test_digits_are_all_there_and_ready_to_use() -> None:
    source = load_source("digits")
    assert source.name == "digits"
    assert source.notice is None
    assert (len(source.train), len(source.test)) == (1497, 300)
    assert (source.repeats, source.default_dev_size) == (10, 300)
    both = np.concatenate([source.train.images, source.test.images])
    assert len(np.unique(both, axis=0)) == 1797
    assert np.bincount(source.test.labels, minlength=10).min() >= 15


def test_digits_are_the_same_on_every_machine() -> None:
    train, test = digits8x8.load_digits()
    digest = hashlib.sha256()
    for digits in (train, test):
        digest.update(digits.images.tobytes() + digits.labels.tobytes())
    assert digest.hexdigest() == DIGITS_SHA256


def test_digits_stand_where_those_of_mnist_stand() -> None:
    train, _ = digits8x8.load_digits()
    images = train.images.astype(np.float64)
    mass = images.sum(axis=(1, 2))
    for axis in (1, 2):
        centre = images.sum(axis=3 - axis) @ np.arange(28) / mass
        assert np.abs(centre - 14).max() <= 0.5
    # MNIST: 0.13 of full ink, 20 pixels high at the most.
    assert 0.1 < images.mean() / 255 < 0.2
    assert (images.max(axis=2) > 0).sum(axis=1).max() <= 20


def cubic(t: float) -> float:
    t = abs(t)
    if t <= 1:
        return 1.5 * t**3 - 2.5 * t**2 + 1
    return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t < 2 else 0.0


def test_enlarging_is_cubic_convolution() -> None:
    small = np.random.default_rng(8).integers(0, 17, (5, 8, 8))
    weights = np.array([[cubic((i + 0.5) / 2.5 - 0.5 - j) for j in range(8)] for i in range(20)])
    exact = np.clip(weights @ small @ weights.T * (255 / 16), 0, 255)
    found = digits8x8.enlarge(small)
    assert found.dtype == np.uint8
    assert np.abs(found - exact).max() <= 0.5 + 1e-9


def test_a_lopsided_box_stays_inside_the_image() -> None:
    boxes = np.zeros((3, 20, 20), dtype=np.uint8)
    boxes[0, 0, 0] = boxes[1, 19, 19] = 255
    images = digits8x8.centre(boxes)
    assert images[0, 8, 8] == 255
    assert images[1, 19, 19] == 255
    assert not images[2].any()


# --- the rest


def test_importing_loads_nothing_slow() -> None:
    code = (
        "import sys, mnist100.data\n"
        "print({'pooch', 'requests', 'sklearn', 'scipy', 'rich', 'torch'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout.strip() == "set()"


@pytest.mark.skipif(not os.environ.get("MNIST100_DATA"), reason="MNIST100_DATA is not set")
def test_real_mnist_has_the_published_checksums() -> None:
    source = load_source("mnist")
    assert isinstance(source.train, DigitSet)
    assert isinstance(source.test, DigitSet)
    assert (len(source.train), len(source.test)) == (60_000, 10_000)
    assert source.default_dev_size == 10_000
    tables = (source.train.images, source.train.labels, source.test.images, source.test.labels)
    for values, published in zip(tables, download.SHA256.values(), strict=True):
        assert hashlib.sha256(header(values) + values.tobytes()).hexdigest() == published
