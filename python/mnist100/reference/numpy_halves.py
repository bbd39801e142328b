"""Pairs of digits as single digits in NumPy, and the scores of two digits as logits of their pair."""

from __future__ import annotations

import math

import numpy as np

from mnist100._checks import Array


def split_halves(x: Array) -> Array:
    """(n, c, h, 2·w) -> (2·n, c, h, w), left before right."""
    n, c, h, width = x.shape
    halves = x.reshape(n, c, h, 2, width // 2).transpose(0, 3, 1, 2, 4)
    return np.ascontiguousarray(halves).reshape(2 * n, c, h, width // 2)


def join_halves(halves: Array) -> Array:
    """(2·n, c, h, w) -> (n, c, h, 2·w)."""
    n, c, h, w = halves.shape
    pairs = halves.reshape(n // 2, 2, c, h, w).transpose(0, 2, 3, 1, 4)
    return np.ascontiguousarray(pairs).reshape(n // 2, c, h, 2 * w)


def pair_logits(scores: Array) -> Array:
    """Outer sums of left and right scores: (2·n, k) -> (n, k·k)."""
    n, k = scores.shape
    return (scores[0::2, :, None] + scores[1::2, None, :]).reshape(n // 2, k * k)


def pair_logits_backward(dz: Array) -> Array:
    """Row sums for the left, column sums for the right: (n, k·k) -> (2·n, k)."""
    n, k = len(dz), math.isqrt(dz.shape[1])
    table = dz.reshape(n, k, k)
    return np.stack([table.sum(axis=2), table.sum(axis=1)], axis=1).reshape(2 * n, k)
