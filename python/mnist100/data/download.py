"""MNIST from the cache, or from a mirror into the cache.

Nothing is believed before its checksum is right, and nothing gets its name in the cache before
that. Without a network the answer is there in `ANSWER_SECONDS`.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist100.data.faults import DataError, FileProgress
from mnist100.data.idx import TEST_FILES, TRAIN_FILES, header, read_images, read_labels
from mnist100.data.pairs import DigitSet

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

# Of the decompressed bytes: the mirrors need not have compressed them alike.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

ANSWER_SECONDS = 5.0
"""How long all mirrors together may take to answer."""

STALL_SECONDS = 5.0
"""How long a download may stand still."""

# Well above the 10 MB of the largest file; a mirror that sends more is not sending MNIST.
_MOST_BYTES = 32 << 20
_CHUNK = 1 << 16


class DownloadError(DataError):
    """MNIST is not in the cache and no mirror could be used."""


def load_mnist(progress: FileProgress | None = None) -> tuple[DigitSet, DigitSet]:
    """Return MNIST's training and test digits, downloading what the cache lacks.

    Files go to ``pooch.os_cache("mnist100")``. A cached file that is damaged counts as missing.

    Raises
    ------
    DownloadError
        If a file is neither in the cache nor to be had; says what each mirror answered.
    """
    # Imported here because pooch and requests are slow to load and only this source needs them.
    import pooch

    folder = pooch.os_cache("mnist100")
    tables: dict[str, NDArray[np.uint8]] = {}
    faults = []
    for name in SHA256:
        path = folder / f"{name}.gz"
        try:
            if path.exists():
                tables[name] = _read_checked(path, name)
        except (DataError, OSError) as error:
            faults.append(str(error))
    missing = [name for name in SHA256 if name not in tables]
    if missing:
        tables |= _download(missing, folder, progress, faults)
    train, test = (DigitSet(tables[i], tables[lab]) for i, lab in (TRAIN_FILES, TEST_FILES))
    return train, test


def _download(
    missing: list[str], folder: Path, progress: FileProgress | None, faults: list[str]
) -> dict[str, NDArray[np.uint8]]:
    """Fetch files from the first mirror that works; where one fails, the next carries on."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Inside the cache, so that a file can be renamed into its place.
        workplace = tempfile.TemporaryDirectory(prefix=".download-", dir=folder)
    except OSError as error:
        raise DownloadError(f"the cache {folder} cannot be written ({error.strerror})") from error
    tables: dict[str, NDArray[np.uint8]] = {}
    with workplace as temporary:
        for mirror, fault in _answers(f"{missing[0]}.gz"):
            try:
                if fault:
                    raise DataError(fault)
                for name in missing:
                    if name not in tables:
                        path = Path(temporary, f"{name}.gz")
                        tables[name] = _fetch(mirror, name, path, progress)
                        path.replace(folder / path.name)
                return tables
            except (DataError, OSError) as error:
                faults.append(f"{mirror}: {_reason(error)}")
    raise DownloadError(f"MNIST could not be downloaded: {'; '.join(faults)}")


def _fetch(mirror: str, name: str, path: Path, progress: FileProgress | None) -> NDArray[np.uint8]:
    """Download one file to ``path`` and return its values if its checksum is right."""
    # Without this header a server may have the transfer unzipped on the way.
    headers = {"Accept-Encoding": "identity"}
    get = _http(headers=headers, chunk_size=_CHUNK, progressbar=_Meter(name, progress))
    get(f"{mirror}{path.name}", path, None)
    try:
        return _read_checked(path, name)
    except DataError as error:
        raise DataError(f"sent something other than {path.name}") from error


def _read_checked(path: Path, name: str) -> NDArray[np.uint8]:
    """Read a file and compare the SHA-256 of its decompressed bytes with the published one."""
    values = read_images(path) if "images" in name else read_labels(path)
    digest = hashlib.sha256(header(values))
    digest.update(values.data)
    if digest.hexdigest() != SHA256[name]:
        raise DataError(f"{path}: its SHA-256 is not that of MNIST's {name}; delete it")
    return values


def _answers(file_name: str) -> Iterator[tuple[str, str | None]]:
    """Ask all mirrors for a file at once; yield each in order, with None or with what is wrong.

    A time-out of the transport bounds one attempt to connect, but not the look-up of the name
    before it nor the number of addresses tried. So each mirror is asked in a thread of its own
    and the answer is waited for no longer than the deadline. The threads are daemons: one that is
    still waiting does not keep the process alive.
    """
    deadline = time.monotonic() + ANSWER_SECONDS
    asked: list[tuple[str, SimpleQueue[str | None]]] = [(m, SimpleQueue()) for m in MIRRORS]
    for mirror, answer in asked:
        arguments = (f"{mirror}{file_name}", answer)
        threading.Thread(target=_ask, args=arguments, daemon=True).start()
    for mirror, answer in asked:
        try:
            fault = answer.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            fault = f"no answer in {ANSWER_SECONDS:g} s"
        yield mirror, fault


def _ask(url: str, answer: SimpleQueue[str | None]) -> None:
    try:
        found = _http()(url, None, None, check_only=True)
        answer.put(None if found else "does not offer the file")
    except (OSError, ValueError) as error:
        answer.put(_reason(error))


def _http(**options: Any) -> Any:
    import pooch

    downloader: Any = pooch.HTTPDownloader  # pooch does not annotate it
    return downloader(timeout=(ANSWER_SECONDS, STALL_SECONDS), **options)


def _reason(error: Exception) -> str:
    """What went wrong, in few words: the transport's own messages run over several lines."""
    if isinstance(error, DataError):
        return str(error)
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP status {response.status_code}"
    return getattr(error, "strerror", None) or type(error).__name__


class _Meter:
    """What pooch takes for a progress bar: passes progress on, and stops an endless download."""

    def __init__(self, name: str, progress: FileProgress | None) -> None:
        self.total = 0
        self._name = name
        self._progress = progress
        self._done = 0

    def update(self, count: int) -> None:
        self._done += count
        if self._done > _MOST_BYTES:
            raise DataError(f"sent more than {_MOST_BYTES} bytes for {self._name}.gz")
        # After the last chunk pooch sends the total, which is 0 if the server did not say.
        if self._progress is not None and count:
            # pooch counts a last, short chunk as a full one.
            done = min(self._done, self.total) if self.total else self._done
            self._progress(self._name, done, self.total)

    def reset(self) -> None:
        self._done = 0

    def close(self) -> None:
        """Nothing is held open."""
