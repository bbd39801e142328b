"""Philox-4x32-10: published vectors, then every random draw of the package from the same blocks."""

from __future__ import annotations

import itertools
import math
from typing import Any, TypeAlias

import numpy as np
import pytest

from mnist100 import _core
from mnist100 import functional as F  # noqa: N812
from support import Array, assert_same, oracle

Block: TypeAlias = tuple[int, int, int, int]
WORD = 2**32 - 1

# Purposes, as csrc/philox.h numbers them.
DROPOUT, JITTER, KEYS, ELASTIC = 0, 3, 4, (5, 6)

# Known answers of Random123 (kat_vectors, "philox4x32 10"): counter, key, result.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((WORD,) * 4, (WORD,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def philox(counter: Block, key: tuple[int, int]) -> Block:
    """Salmon et al. 2011, section 4.3, in whole numbers."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & WORD, (p0 >> 32) ^ c3 ^ k1, p0 & WORD
        k0, k1 = (k0 + 0x9E3779B9) & WORD, (k1 + 0xBB67AE85) & WORD
    return c0, c1, c2, c3


def block(seed: int, step: int, purpose: int, index: int) -> Block:
    """The block that csrc/philox.h uses: the key is the seed, the counter all the rest."""
    counter = (index & WORD, index >> 32 | purpose << 16, step & WORD, step >> 32)
    return philox(counter, (seed & WORD, seed >> 32))


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_known_answers(counter: Block, key: tuple[int, int], result: Block) -> None:
    assert philox(counter, key) == result


# Dropout's purpose is 0, so that its first block is Philox of an all-zero counter.
def test_a_published_vector_through_dropout(variant: str) -> None:
    words = np.array(KNOWN[0][2], np.float64)
    for p in [*(words - 1) / 2**32, *words / 2**32, *(words + 1) / 2**32]:
        _, mask = F.dropout(np.ones(4, np.float32), p, seed=0, step=0)
        assert mask.tolist() == (words >= p * 2**32).tolist()


STREAMS = [(0, 0), (1, 0), (0, 1), (0x299F31D0A4093822, 0x0370734413198A2E), (2**64 - 1,) * 2]


@pytest.mark.parametrize(("seed", "step"), STREAMS)
def test_dropout_draws_these_blocks(variant: str, seed: int, step: int) -> None:
    bits = [w for i in range(25) for w in block(seed, step, DROPOUT, i)][:99]
    for p in (0.1, 0.5, 0.9):
        _, mask = F.dropout(np.ones(99, np.float32), p, seed=seed, step=step)
        assert mask.tolist() == [w >= p * 2**32 for w in bits]


@pytest.mark.parametrize(("seed", "step"), STREAMS)
def test_keys_are_these_blocks(seed: int, step: int) -> None:
    keys = _core.random_keys(50, seed, step)
    expected = [(w[0] << 32) | w[1] for w in (block(seed, step, KEYS, i) for i in range(50))]
    assert keys.tolist() == expected
    order = sorted(range(50), key=expected.__getitem__)
    assert F.permutation(50, seed=seed, step=step).tolist() == order


def pixels(count: int, **options: Any) -> Array:
    """Input batches of white on zero mean and unit deviation, for samples 0 to count - 1."""
    white = np.full((1, 28, 28), 255, np.uint8)
    ones = np.ones((28, 56), np.float32)
    pairs = np.zeros((count, 2), np.int32)
    return F.input_batch(
        white, pairs, np.arange(count), 0 * ones, ones, seed=11, step=12, **options
    )


def test_jitter_draws_these_blocks(variant: str) -> None:
    shift, contrast, brightness = 3, 0.5, 0.25
    moved, scaled = pixels(20, shift=shift), pixels(20, contrast=contrast, brightness=brightness)
    for sample in range(20):
        first, second = (block(11, 12, JITTER, 2 * sample + i) for i in (0, 1))
        by = (first[0] * (2 * shift + 1) >> 32) - shift
        columns = np.arange(56)
        lit = (columns - by >= 0) & (columns - by < 56)
        assert_same(moved[sample, 0], np.tile(lit.astype(np.float32), (28, 1)))
        value = 1 + contrast * normal(first[1], first[2]) + brightness * normal(*second[:2])
        np.testing.assert_allclose(scaled[sample], value, rtol=1e-6, atol=1e-6)


def test_elastic_draws_these_blocks(variant: str) -> None:
    rows = np.repeat(np.arange(28, dtype=np.uint8) * 9, 28).reshape(1, 28, 28)
    ones = np.ones((28, 56), np.float32)
    pairs = np.zeros((6, 2), np.int32)
    x = F.input_batch(
        rows, pairs, np.arange(6), 0 * ones, ones / 255, elastic=2.0, seed=11, step=12
    )
    for sample, half in itertools.product(range(6), (0, 1)):
        words = [w for i in range(25) for w in block(11, 12, ELASTIC[half], 25 * sample + i)]
        nodes = (
            np.array(words[:49]).reshape(7, 7) + 0.5
        ) / 2**31 - 1  # of the downward displacements
        # The middle pixel of a cell lies half way between nodes: 1/48, 23/48, 23/48, 1/48.
        parts = np.array([1, 23, 23, 1]) / 48
        moved = 2.0 * parts @ nodes[1:5, 2:6] @ parts
        found = float(x[sample, 0, 10, 28 * half + 17]) / 9 - 10
        assert found == pytest.approx(moved, abs=1e-5)


def normal(radius: int, angle: int) -> float:
    u, v = (radius + 0.5) / 2**32, (angle + 0.5) / 2**32
    return math.sqrt(-2 * math.log(u)) * math.cos(2 * math.pi * v)


@pytest.mark.parametrize("n", [0, 1, 2, 1000])
def test_permutations(n: int) -> None:
    order = F.permutation(n, seed=5, step=6)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(n))
    assert_same(F.permutation(n, seed=5, step=6), order)
    assert_same(oracle(F.permutation, n, seed=5, step=6), order)
    if n > 2:
        assert (F.permutation(n, seed=5, step=7) != order).any()
        assert (F.permutation(n, seed=6, step=6) != order).any()


def test_a_published_permutation_stays_what_it_was() -> None:
    # Splits and pairings of finished runs depend on it.
    assert F.permutation(8, seed=0).tolist() == [2, 7, 3, 0, 1, 4, 5, 6]


def test_permutations_are_uniform() -> None:
    # 24 orders of four, 4800 draws: chi-square with 23 degrees of freedom passes 49.7 once in a
    # thousand.
    counts: dict[tuple[int, ...], int] = {}
    for step in range(4800):
        order = tuple(F.permutation(4, seed=1, step=step).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 24
    assert sum((count - 200) ** 2 / 200 for count in counts.values()) < 49.7


def test_uniform_draws() -> None:
    draws = F.uniform((200, 200), seed=3)
    assert draws.dtype == np.float64
    assert draws.min() >= 0
    assert draws.max() < 1
    # The deviation of a count of n draws in a tenth is √(0.09 n); five of it.
    counts = np.histogram(draws, bins=10, range=(0, 1))[0]
    assert abs(counts / draws.size - 0.1).max() < 5 * math.sqrt(0.09 / draws.size)
    high, low = block(3, 0, KEYS, 0)[:2]
    assert draws[0, 0] == ((high << 32 | low) >> 11) * 2.0**-53
    assert_same(F.uniform((200, 200), seed=3), draws)


def test_normal_draws() -> None:
    draws = F.normal((200, 200), seed=3)
    n = draws.size
    assert draws.dtype == np.float64
    # Deviations of the mean, 1/√n, and of the mean square, √(2/n); five of each.
    assert abs(draws.mean()) < 5 / math.sqrt(n)
    assert abs((draws**2).mean() - 1) < 5 * math.sqrt(2 / n)
    assert abs((draws**3).mean()) < 5 * math.sqrt(15 / n)
    assert abs((draws < -1).mean() - 0.158655) < 5 * math.sqrt(0.158655 * 0.841345 / n)
    words = block(3, 0, KEYS, 0)
    assert draws[0, 0] == pytest.approx(normal(words[0], words[1]), rel=1e-12)
    assert_same(F.normal((200, 200), seed=3), draws)
