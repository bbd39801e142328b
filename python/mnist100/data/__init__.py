"""Digits, pairs of digits, and the batches made of them.

The way through this package: a `Source` holds training and test digits, `split` takes development
digits from the training ones, `pair` lays digits side by side, `Normalisation.fit` measures the
training pairs, and `batches` says in which order they are seen.
"""

from __future__ import annotations

from mnist100.data.batches import batches
from mnist100.data.download import DownloadError
from mnist100.data.idx import DataError, read_folder
from mnist100.data.normalisation import Normalisation
from mnist100.data.pairs import PAIRING_SEED, DigitSet, PairSet, balanced, pair
from mnist100.data.sources import Source, load_source
from mnist100.data.splits import SPLIT_SEED, Splits, split

__all__ = [
    "PAIRING_SEED",
    "SPLIT_SEED",
    "DataError",
    "DigitSet",
    "DownloadError",
    "Normalisation",
    "PairSet",
    "Source",
    "Splits",
    "balanced",
    "batches",
    "load_source",
    "pair",
    "read_folder",
    "split",
]
