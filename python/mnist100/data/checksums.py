"""What data are, in 64 characters."""

from __future__ import annotations

import hashlib

import numpy as np

from mnist100.data.pairs import PairSet, Table


def checksum(table: Table) -> str:
    """Return the SHA-256 of a table's bytes, as 64 hexadecimal digits.

    Of digits: the images, row by row, then the labels. Of finished pairs: their digits so, then the
    pairs as little-endian int32.
    """
    digits = table.digits if isinstance(table, PairSet) else table
    digest = hashlib.sha256(digits.images.data)
    digest.update(np.ascontiguousarray(digits.labels).data)
    if isinstance(table, PairSet):
        digest.update(table.pairs.astype("<i4").data)
    return digest.hexdigest()
