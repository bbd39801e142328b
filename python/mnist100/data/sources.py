"""Where digits come from, in which order the places are tried, and what a source is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mnist100 import _checks
from mnist100.data import digits8x8, download
from mnist100.data.idx import DataError, read_folder
from mnist100.data.pairs import DigitSet

ENVIRONMENT_VARIABLE = "MNIST100_DATA"

# Of MNIST's 60,000 training digits, 10,000 are for dev; smaller sets keep the proportion.
_DEV_SHARE = 6

_FALLBACK_NOTICE = (
    "MNIST is not at hand and could not be downloaded: these are scikit-learn's 1,797 small "
    "digits, not MNIST (dataset 'mnist' says why)"
)


@dataclass(frozen=True, eq=False)
class Source:
    """Training and test digits, and how they want to be used.

    Attributes
    ----------
    name : str
        "mnist", "digits" or the folder they were read from.
    train, test : DigitSet
        Not empty.
    repeats : int
        How many permutations each split is paired in, at least 1.
    default_dev_size : int
        Training digits to set aside for dev; leaves at least one to train on.
    notice : str or None
        One line to show beside every accuracy if "auto" fell back to "digits", else None.

    Raises
    ------
    ValueError
        If a table is empty or a number is out of range.
    """

    name: str
    train: DigitSet
    test: DigitSet
    repeats: int
    default_dev_size: int
    notice: str | None = None

    def __post_init__(self) -> None:
        for table in ("train", "test"):
            if len(getattr(self, table)) == 0:
                raise _checks.fail(table, "no digits", "at least one")
        _checks.integer("repeats", self.repeats, 1)
        _checks.integer("default_dev_size", self.default_dev_size, 0, len(self.train) - 1)


def load_source(
    dataset: str | os.PathLike[str] = "auto", *, progress: download.Progress | None = None
) -> Source:
    """Load the digits of a data set.

    "mnist" is read from the folder that ``MNIST100_DATA`` names; if that is unset or empty, from
    the cache; if it is not there, it is downloaded into the cache. "auto" is "mnist" if that can
    be had, else "digits" with a ``notice``. A ``MNIST100_DATA`` that cannot be read is an error
    under both.

    Parameters
    ----------
    dataset : str or path
        "auto", "mnist", "digits" (scikit-learn's, no network needed), or a folder with the four
        IDX files.
    progress : callable or None
        Called during a download as ``progress(file_name, bytes_so_far, bytes_in_all)``; the last
        is 0 if the server does not say.

    Raises
    ------
    DataError
        If the data cannot be had; the message says what to do.
    TypeError
        If ``progress`` is neither None nor callable.
    """
    if progress is not None and not callable(progress):
        raise _checks.fail_type("progress", _checks.describe(progress), "a callable or None")
    if dataset == "digits":
        return _digits(notice=None)
    if dataset in ("auto", "mnist"):
        return _mnist(progress, fall_back=dataset == "auto")
    if not os.fspath(dataset):
        raise DataError("dataset: got '', want auto, mnist, digits or a folder of IDX files")
    folder = _folder(dataset)
    if not os.path.exists(folder):
        raise DataError(
            f"dataset: got {os.fspath(dataset)!r}, which is neither auto, mnist or digits nor a "
            "folder that exists"
        )
    return _from_tables(str(folder), *read_folder(folder))


def _mnist(progress: download.Progress | None, *, fall_back: bool) -> Source:
    folder = os.environ.get(ENVIRONMENT_VARIABLE)
    if folder:
        try:
            return _from_tables("mnist", *read_folder(_folder(folder)))
        except DataError as error:
            advice = f"mend what {ENVIRONMENT_VARIABLE} names, or unset it"
            raise DataError(f"{ENVIRONMENT_VARIABLE}: {error}; {advice}") from error
    try:
        return _from_tables("mnist", *download.load_mnist(progress))
    except download.DownloadError as error:
        if fall_back:
            return _digits(notice=_FALLBACK_NOTICE)
        raise download.DownloadError(
            f"{error}. Connect to the network, or set {ENVIRONMENT_VARIABLE} to a folder with the "
            "four IDX files, or use the dataset 'digits'"
        ) from error


def _folder(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.expanduser(path))


def _from_tables(name: str, train: DigitSet, test: DigitSet) -> Source:
    return Source(name, train, test, repeats=1, default_dev_size=len(train) // _DEV_SHARE)


def _digits(notice: str | None) -> Source:
    train, test = digits8x8.load_digits()
    return Source("digits", train, test, digits8x8.REPEATS, digits8x8.DEV_SIZE, notice)
