"""Philox-4x32-10 in NumPy: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

The draws are those of ``csrc/philox.h``.
"""

from __future__ import annotations

import numpy as np

from mnist100._checks import Array

# What a block of bits is for; two purposes never share a counter.
DROPOUT, JITTER = 0, 3
AFFINE, ELASTIC = (1, 2), (5, 6)  # of the left digit, of the right one

_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


def words(index: Array, purpose: int, *, seed: int, step: int) -> Array:
    """Four 32-bit words for each block number of `index` (n,): uint64 (4, n), each below 2^32."""
    index = index.astype(np.uint64)
    c0, c1 = index & _LOW, (index >> _32) | np.uint64(purpose << 16)
    c2, c3 = (np.full_like(index, half) for half in (step & 0xFFFFFFFF, step >> 32))
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c2 = (p1 >> _32) ^ c1 ^ np.uint64(k0), (p0 >> _32) ^ c3 ^ np.uint64(k1)
        c1, c3 = p1 & _LOW, p0 & _LOW
        # Weyl constants: golden ratio, sqrt(3) - 1.
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3])


def uniform(bits: Array, half_width: float) -> Array:
    """Draws from U(-half_width, half_width)."""
    return (2 * _uniform01(bits) - 1) * half_width


def normal(bits_radius: Array, bits_angle: Array) -> Array:
    """Draws from N(0, 1) (Box & Muller 1958)."""
    radius = np.sqrt(-2 * np.log(_uniform01(bits_radius)))
    draws: Array = radius * np.cos(2 * np.pi * _uniform01(bits_angle))
    return draws


def _uniform01(bits: Array) -> Array:
    """The open interval (0, 1): the middle of one of 2^32 cells."""
    return (bits.astype(np.float64) + 0.5) * 2.0**-32
