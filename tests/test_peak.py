"""The register-only loop that measures peak arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from mnist100 import _core
from support import assert_same, isa, whole

# Around a block of 12 or 24 vectors of 4 to 16 lanes, alone and after a full one.
SIZES = [0, 1, 47, 48, 49, 95, 96, 97, 383, 384, 385, 2 * 384 + 5]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rounds", [0, 1, 7])
@pytest.mark.usefixtures("variant")
def test_oracle(size: int, rounds: int) -> None:
    y = whole(size)
    expected = y.copy()
    with isa("reference"):
        _core.fma_rounds(expected, 2.0, 1.0, rounds)
    _core.fma_rounds(y, 2.0, 1.0, rounds)  # whole numbers below 2^24: exact, fused or not
    assert_same(y, expected)


def test_what_it_computes() -> None:
    y = np.array([1.0, -3.0])
    _core.fma_rounds(y, 2.0, 5.0, 2)
    assert_same(y, np.array([19.0, 3.0]))


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ValueError, match="rounds is negative"):
        _core.fma_rounds(np.zeros(3, np.float32), 1.0, 0.0, -1)
