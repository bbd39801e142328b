"""Digits, pairs of digits, and the batches made of them.

The way through this package: a `Source` holds training and test digits, `split` takes development
digits from the training ones, `pair` lays digits side by side, `Normalisation.fit` measures the
training pairs, and `batches` says in which order they are seen. A source of finished pairs goes the
same way, except that there is nothing left to pair.
"""

from __future__ import annotations

from mnist100.data.batches import batches
from mnist100.data.checksums import checksum
from mnist100.data.download import DownloadError
from mnist100.data.faults import DataError, FileProgress
from mnist100.data.idx import read_folder
from mnist100.data.normalisation import Normalisation
from mnist100.data.pairs import (
    PAIRING_SEED,
    DigitSet,
    PairSet,
    Table,
    balanced,
    pair,
    published_pairs,
)
from mnist100.data.sources import Source, load_source
from mnist100.data.splits import SPLIT_SEED, Splits, split

__all__ = [
    "PAIRING_SEED",
    "SPLIT_SEED",
    "DataError",
    "DigitSet",
    "DownloadError",
    "FileProgress",
    "Normalisation",
    "PairSet",
    "Source",
    "Splits",
    "Table",
    "balanced",
    "batches",
    "checksum",
    "load_source",
    "pair",
    "published_pairs",
    "read_folder",
    "split",
]
