"""Where data come from, in which order the places are tried, and what a source is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mnist100 import _checks
from mnist100.data import csv_pairs, digits8x8, download, npz_pairs
from mnist100.data.faults import DataError, FileProgress, reported
from mnist100.data.idx import TEST_FILES, TRAIN_FILES, read_folder
from mnist100.data.pairs import PairSet, Table

ENVIRONMENT_VARIABLE = "MNIST100_DATA"
BUILT_IN = ("auto", "mnist", "digits")

# Of MNIST's 60,000 training digits, 10,000 are for dev; other sets, pairs too, keep the proportion.
_DEV_SHARE = 6

_FALLBACK_NOTICE = (
    "MNIST is not at hand and could not be downloaded: these are scikit-learn's 1,797 small "
    "digits, not MNIST (dataset 'mnist' says why)"
)


@dataclass(frozen=True, eq=False)
class Source:
    """Training and test data, and how they want to be used.

    Attributes
    ----------
    name : str
        "mnist", "digits" or the path they were read from.
    train, test : DigitSet or PairSet
        Both digits or both finished pairs; not empty.
    repeats : int
        How many permutations the digits of each split are paired in, at least 1.
    default_dev_size : int
        Training digits or pairs to set aside for dev; leaves at least one to train on.
    notice : str or None
        One line to show beside every accuracy if "auto" fell back to "digits", else None.

    Raises
    ------
    ValueError
        If a table is empty or a number is out of range.
    """

    name: str
    train: Table
    test: Table
    repeats: int
    default_dev_size: int
    notice: str | None = None

    def __post_init__(self) -> None:
        for table in ("train", "test"):
            if len(getattr(self, table)) == 0:
                raise _checks.fail(table, "nothing", "at least one digit or pair")
        _checks.integer("repeats", self.repeats, 1)
        _checks.integer("default_dev_size", self.default_dev_size, 0, len(self.train) - 1)

    @property
    def is_paired(self) -> bool:
        """Whether these are finished pairs, which cannot be paired anew or split by digit."""
        return isinstance(self.train, PairSet)


def load_source(
    dataset: str | os.PathLike[str] = "auto", *, progress: FileProgress | None = None
) -> Source:
    """Load a data set.

    "mnist" is read from the folder that ``MNIST100_DATA`` names; if that is unset or empty, from
    the cache; if it is not there, it is downloaded into the cache. "auto" is "mnist" if that can
    be had, else "digits" with a ``notice``. A ``MNIST100_DATA`` that cannot be read is an error
    under both.

    Parameters
    ----------
    dataset : str or path
        "auto", "mnist", "digits" (scikit-learn's, no network needed), an .npz file of pairs, or a
        folder with the first of these that it holds: the four IDX files, ``mnist_train.csv`` and
        ``mnist_test.csv``, ``mnist_compressed.npz``.
    progress : callable or None
        Called during a download, and while a CSV file is read, as ``progress(file_name,
        bytes_so_far, bytes_in_all)``; the last is 0 if a server does not say.

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
        raise DataError("dataset: got '', want auto, mnist, digits, a folder or an .npz file")
    path = _expanded(dataset)
    if not os.path.exists(path):
        raise DataError(
            f"dataset: got {os.fspath(dataset)!r}, which is neither auto, mnist or digits nor a "
            "folder or file that exists"
        )
    # A folder may be called like a built-in data set, a source may not.
    name = os.path.join(os.curdir, path) if str(path) in BUILT_IN else str(path)
    return _from_tables(name, *_read(path, progress))


def _mnist(progress: FileProgress | None, *, fall_back: bool) -> Source:
    folder = os.environ.get(ENVIRONMENT_VARIABLE)
    if folder:
        try:
            return _from_tables("mnist", *read_folder(_expanded(folder)))
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


def _read(path: Path, progress: FileProgress | None) -> tuple[Table, Table]:
    """Read a file, or what a folder holds; see `load_source`."""
    if path.suffix == ".npz":
        return npz_pairs.read(path)
    if not path.is_dir():
        raise DataError(f"{path}: not an .npz file; give one, or the folder with IDX or CSV files")
    with reported(path):
        present = {name.removesuffix(".gz") for name in os.listdir(path)}
    if present & {*TRAIN_FILES, *TEST_FILES}:
        return read_folder(path)
    if present & {csv_pairs.TRAIN_NAME, csv_pairs.TEST_NAME}:
        return csv_pairs.read_folder(path, progress)
    if npz_pairs.NAME in present:
        return npz_pairs.read(path / npz_pairs.NAME)
    raise DataError(
        f"{path}: has neither the four MNIST IDX files nor {csv_pairs.TRAIN_NAME} and "
        f"{csv_pairs.TEST_NAME} nor {npz_pairs.NAME}; give a folder that has, or an .npz file"
    )


def _expanded(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.expanduser(path))


def _from_tables(name: str, train: Table, test: Table) -> Source:
    return Source(name, train, test, repeats=1, default_dev_size=len(train) // _DEV_SHARE)


def _digits(notice: str | None) -> Source:
    train, test = digits8x8.load_digits()
    return Source("digits", train, test, digits8x8.REPEATS, digits8x8.DEV_SIZE, notice)
