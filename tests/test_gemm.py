"""Matrix products on every instruction set, against the oracle and PyTorch."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from cases import GEMM, Gemm
from mnist100 import functional as F  # noqa: N812
from support import Array, assert_same, assert_sum_close, draws, oracle, tensor, whole

TRANSPOSES = [(False, False), (True, False), (False, True), (True, True)]
SCALES = [(1.0, 1.0), (-2.0, 0.0), (0.0, 3.0), (0.0, 0.0), (2.0, -1.0)]
CORNERS = [Gemm(0, 3, 4), Gemm(3, 4, 0), Gemm(7, 17, 3), Gemm(25, 65, 257), Gemm(3, 5, 2048)]


def stored(matrix: Array, transposed: bool) -> Array:
    return np.ascontiguousarray(matrix.T) if transposed else matrix


@cache
def exact_product(shape: Gemm) -> tuple[Array, Array, Array]:
    a = whole(shape.m, shape.k, seed=1)
    b = whole(shape.k, shape.n, seed=2)
    return a, b, oracle(F.gemm, a, b)


@pytest.mark.parametrize("shape", GEMM, ids=str)
def test_equals_the_oracle(exact_variant: str, shape: Gemm) -> None:
    a, b, expected = exact_product(shape)
    for trans_a, trans_b in TRANSPOSES:
        out = F.gemm(stored(a, trans_a), stored(b, trans_b), trans_a=trans_a, trans_b=trans_b)
        assert_same(out, expected)


@pytest.mark.parametrize("shape", GEMM, ids=str)
def test_agrees_with_pytorch(variant: str, shape: Gemm) -> None:
    a, b = draws(shape.m, shape.k, seed=1), draws(shape.k, shape.n, seed=2)
    c = draws(shape.m, shape.n, seed=3)
    expected = torch.addmm(tensor(c), tensor(a), tensor(b), alpha=0.75, beta=-0.5)
    out = c.copy()
    F.gemm(a, b, alpha=0.75, beta=-0.5, out=out)
    assert_sum_close(out, expected, shape.k + 1)


@pytest.mark.parametrize(("alpha", "beta"), SCALES)
@pytest.mark.parametrize("shape", CORNERS, ids=str)
def test_alpha_and_beta(variant: str, shape: Gemm, alpha: float, beta: float) -> None:
    a, b, product = exact_product(shape)
    c = whole(shape.m, shape.n, seed=3)
    out = c.copy()
    assert F.gemm(a, b, alpha=alpha, beta=beta, out=out) is out
    assert_same(out, np.float32(alpha) * product + np.float32(beta) * c)
    assert_same(oracle(F.gemm, a, b, alpha=alpha, beta=beta, out=c.copy()), out)


@pytest.mark.parametrize("shape", CORNERS, ids=str)
def test_beta_zero_never_reads_out(variant: str, shape: Gemm) -> None:
    a, b, expected = exact_product(shape)
    out = np.full((shape.m, shape.n), np.nan, np.float32)
    F.gemm(a, b, out=out)
    assert_same(out, expected)


def test_nan_and_infinity_reach_their_rows_and_columns_only(variant: str) -> None:
    a, b = whole(13, 300), whole(300, 33)
    expected = F.gemm(a, b)
    a[5, 7], b[280, 20] = np.nan, np.inf
    out = F.gemm(a, b)
    touched = np.zeros(out.shape, bool)
    touched[5] = touched[:, 20] = True
    assert not np.isfinite(out[touched]).any()
    assert_same(out[~touched], expected[~touched])


@pytest.mark.parametrize(("trans_a", "trans_b"), TRANSPOSES)
def test_the_oracle_transposes(trans_a: bool, trans_b: bool) -> None:
    a, b = whole(4, 6, seed=1), whole(6, 5, seed=2)
    out = oracle(F.gemm, stored(a, trans_a), stored(b, trans_b), trans_a=trans_a, trans_b=trans_b)
    assert_same(out, a @ b)


@pytest.mark.parametrize(("trans_a", "trans_b"), TRANSPOSES)
def test_float64(variant: str, trans_a: bool, trans_b: bool) -> None:
    a, b = draws(9, 31, seed=1, dtype=np.float64), draws(31, 17, seed=2, dtype=np.float64)
    c = draws(9, 17, dtype=np.float64)
    expected = torch.addmm(tensor(c), tensor(a), tensor(b), alpha=1.5, beta=0.5)
    F.gemm(
        stored(a, trans_a),
        stored(b, trans_b),
        trans_a=trans_a,
        trans_b=trans_b,
        alpha=1.5,
        beta=0.5,
        out=c,
    )
    assert_sum_close(c, expected, 31)


def test_views_give_the_same_as_copies(variant: str) -> None:
    a, b = draws(14, 20)[::2, ::-1], draws(40, 9, seed=1)[::2]
    before = a.copy(), b.copy()
    assert_same(F.gemm(a, b), F.gemm(*before))
    assert_same((a, b), before)
    fortran = np.asfortranarray(before[0])
    assert_same(F.gemm(fortran, b), F.gemm(*before))
