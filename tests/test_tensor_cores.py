"""Tensor cores on values that they have to round: to TF32 or bfloat16, products and sums then in float32.

What they do with small whole numbers, which both formats hold, is tested with every other variant.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from conftest import TENSOR_CORES
from mnist100 import functional as F  # noqa: N812
from mnist100._checks import Array
from mnist100.data import Splits
from mnist100.training import fit
from mnist100.training.backends import Cuda, Native
from support import assert_same, assert_sum_close, draws, isa, oracle, skip_without_gpu
from test_device import recipe_of
from test_training import make_digits

skip_without_gpu(__name__)


def rounded(x: Array, variant: str) -> Array:
    """What the tensor cores of a variant make of float32."""
    if variant == "cuda_bf16":  # to eight bits, ties to even
        return torch.from_numpy(x).bfloat16().float().numpy()
    bits = (x.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)  # to eleven, ties away
    return bits.view(np.float32)


@pytest.mark.parametrize("variant", TENSOR_CORES)
@pytest.mark.parametrize(("m", "n", "k"), [(5, 7, 9), (70, 33, 100), (130, 65, 300)])
def test_operands_are_rounded_and_nothing_else(variant: str, m: int, n: int, k: int) -> None:
    a, b = draws(m, k), draws(k, n, seed=1)
    with isa(variant):
        found = F.gemm(a, b)
    assert_sum_close(found, oracle(F.gemm, rounded(a, variant), rounded(b, variant)), k)
    assert np.abs(found - oracle(F.gemm, a, b)).max() > 1e-5 * k**0.5


@pytest.mark.parametrize("variant", TENSOR_CORES)
def test_values_at_the_ends_of_the_range(variant: str) -> None:
    ends = np.array([np.inf, -np.inf, np.nan, -0.0, 3.4e38, -3.4e38, 1e-40], np.float32)
    with isa(variant):
        found = F.gemm(np.diag(np.ones(7, np.float32)), np.repeat(ends[:, np.newaxis], 3, axis=1))
    # A product with NaN or infinity reaches every row of its column: 0 * inf is NaN.
    assert np.isnan(found).all()
    for value in (np.inf, -np.inf, np.nan):
        with isa(variant):
            assert_same(
                F.gemm(np.ones((1, 1), np.float32), np.full((1, 1), value, np.float32)),
                np.full((1, 1), value, np.float32),
            )


@pytest.mark.full  # test_device.py has an epoch of each network in each precision
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("architecture", ["cnn", "siamese"])
def test_a_run_comes_near_to_the_cpus(architecture: str, precision: str) -> None:
    splits = Splits(make_digits(30, 1), make_digits(20, 2), make_digits(10, 3))
    recipe = recipe_of(architecture, epochs=2, learning_rate=1e-3)
    histories = []
    for backend, wanted in ((Cuda(), precision), (Native(), "fp32")):
        chosen = recipe.replace(precision=wanted)
        histories.append(fit(chosen.network(7), splits, chosen, seed=7, backend=backend).history)
    for ours, theirs in zip(*histories, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=0.02)
        assert ours.loss != theirs.loss


def test_cpus_have_one_precision() -> None:
    splits = Splits(make_digits(30, 1), make_digits(20, 2), make_digits(10, 3))
    recipe = recipe_of("mlp", precision="bf16")
    with pytest.raises(
        ValueError, match="precision: got bf16 with the native backend on cpu, wants fp32"
    ):
        fit(recipe.network(7), splits, recipe, seed=7)
