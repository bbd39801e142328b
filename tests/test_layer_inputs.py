"""What layers refuse names the argument, what it got and what it wants; any memory order is taken."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mnist100 import _core, layers, optim
from mnist100 import functional as F  # noqa: N812
from mnist100.batch_norm import BatchNormReLU
from mnist100.halves import Halves, PairLogits
from mnist100.layers import Activation, Layer, Padded, to_nchw, to_padded
from support import assert_same, draws

X = draws(4, 3, 8, 8)

LAYERS: dict[str, Callable[[], Layer]] = {
    "conv2d": lambda: layers.Conv2d("a", 3, 16, 3, padding=1),
    "conv2d_relu": lambda: layers.Conv2d("a", 3, 16, 3, padding=1, relu=True),
    "conv2d_no_bias": lambda: layers.Conv2d("a", 3, 16, 3, padding=1, bias=False),
    "conv_block": lambda: layers.ConvBlock("a", 3, 16),
    "batch_norm": lambda: BatchNormReLU("a", 3),
    "batch_norm_pool": lambda: BatchNormReLU("a", 3, pool=True),
    "halves": lambda: Halves(),
    "flatten": lambda: layers.Flatten(),
}

TYPES: list[tuple[str, Callable[[Any], Any], type[Exception], str]] = [
    ("none", lambda a: None, TypeError, "got NoneType None, wants a NumPy array"),
    ("list", lambda a: a.tolist(), TypeError, "got list .*, wants a NumPy array"),
    ("int64", lambda a: a.astype(np.int64), TypeError, "got int64 array .*, wants float32"),
    ("float16", lambda a: a.astype(np.float16), TypeError, "got float16 array .*, wants float32"),
    ("swapped", lambda a: a.astype(">f4"), TypeError, "got >f4 array .*, wants float32"),
    ("vector", lambda a: a.ravel(), ValueError, r"got float32 array of shape \(\d+,\), wants"),
]
CONVOLVED = [name for name in LAYERS if name not in ("halves", "flatten")]


def as_array(y: Activation | None) -> np.ndarray[Any, Any]:
    assert y is not None
    return to_nchw(y)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(
    ("spoil", "error", "message"), [case[1:] for case in TYPES], ids=[case[0] for case in TYPES]
)
def test_no_batch(
    name: str, spoil: Callable[[Any], Any], error: type[Exception], message: str
) -> None:
    layer = LAYERS[name]()
    with pytest.raises(error, match=f"^x: {message}"):
        layer.forward(spoil(X), 1)
    y, cache = layer.forward(X, 1)
    with pytest.raises(error, match=f"^dy: {message}"):
        layer.backward(spoil(as_array(y)), cache)


@pytest.mark.parametrize("name", CONVOLVED)
@pytest.mark.parametrize("padded", [False, True])
def test_batches_that_do_not_fit(name: str, padded: bool) -> None:
    layer = LAYERS[name]()

    def given(a: np.ndarray[Any, Any]) -> Activation:
        a = np.ascontiguousarray(a)
        return to_padded(a, (1, 1)) if padded else a

    with pytest.raises(ValueError, match=r"^x: got shape \(4, 2, 8, 8\), wants \(n, 3, h, w\)"):
        layer.forward(given(X[:, :2]), 1)
    with pytest.raises(TypeError, match=r"^x: got float64 array .*, wants float32"):
        layer.forward(given(X.astype(np.float64)), 1)
    y, cache = layer.forward(X, 1)
    dy = as_array(y)
    n, c, h, w = dy.shape
    for wrong in (dy[:1], dy[:, :2], dy[:, :, :-1], dy[:, :, :, :-1]):
        wants = rf"wants \({n}, {c}, {h}, {w}\)"
        with pytest.raises(ValueError, match=rf"^dy: got shape .*, {wants}"):
            layer.backward(given(wrong), cache)
    with pytest.raises(TypeError, match=r"^dy: got float64 array .*, wants float32"):
        layer.backward(given(dy.astype(np.float64)), cache)


@pytest.mark.parametrize("name", LAYERS)
def test_any_memory_order(name: str) -> None:
    layer = LAYERS[name]()
    y, cache = layer.forward(X, 1)
    expected = as_array(y)
    gradient = layer.backward(y, cache)
    y, cache = layer.forward(np.asfortranarray(X), 1)
    assert_same(as_array(y), expected)
    assert_same(as_array(layer(np.asfortranarray(X))), as_array(layer(X)))
    assert_same(as_array(layer.backward(np.asfortranarray(expected), cache)), as_array(gradient))


@pytest.mark.parametrize("name", ["conv_block", "batch_norm_pool"])
def test_no_pooling_window(name: str) -> None:
    with pytest.raises(ValueError, match=r"^x: got shape .*, wants at least 2x2 pixels"):
        LAYERS[name]().forward(X[:, :, :1], 1)


def test_halves() -> None:
    with pytest.raises(ValueError, match=r"^x: got .*, wants an even width"):
        Halves().forward(X[..., :7].copy(), 1)
    odd = Padded(np.zeros((3, 4, 4, 2), np.float32), (0, 0))
    with pytest.raises(ValueError, match=r"^dy: got shape \(3, 2, 4, 4\), wants an even number"):
        Halves().backward(odd, None)
    with pytest.raises(ValueError, match=r"^scores: got .*, wants an even number of rows"):
        PairLogits().forward(np.zeros((3, 10), np.float32), 1)


def test_caches_of_another_function() -> None:
    dy = np.zeros((4, 16, 4, 4), np.float32)
    with pytest.raises(TypeError, match=r"^cache: got NoneType None, wants the BlockCache that"):
        F.conv_block_backward(dy, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^cache: got tuple .*, wants the NormCache that"):
        F.batch_norm_relu_backward(dy, (1, 2))  # type: ignore[arg-type]


@pytest.mark.parametrize("channels", [(1, 16), (3, 5), (16, 32)])
@pytest.mark.parametrize("place", [4, 255])
def test_places_that_are_none(variant: str, channels: tuple[int, int], place: int) -> None:
    c, oc = channels
    x, w = draws(2, c, 8, 8), draws(oc, c, 3, 3, seed=1)
    y, cache = F.conv_block(x, w, draws(oc, seed=2))
    spoilt = np.full_like(cache.argmax, place)
    with pytest.raises(ValueError, match=rf"^cache\.argmax: got a value of {place}, wants 0 to 3"):
        F.conv_block_backward(y, dataclasses.replace(cache, argmax=spoilt))
    # The kernel itself, which trusts it, still reads nothing outside its arrays.
    dx, dw, _ = _core.conv_block_backward(
        np.ones_like(cache.y), cache.x, cache.y, spoilt, w, cache.y_border, True
    )
    assert dx is not None
    assert np.abs(_core.unpad_nhwc(dx, (1, 1))).max() < 1e4
    assert np.abs(dw).max() < 1e4


def test_places_in_a_normalised_window_that_are_none() -> None:
    c = np.ones(3, np.float32)
    y, cache = F.batch_norm_relu(X, 0 * c, c, c, c, pool=True)
    assert cache.argmax is not None
    spoilt = dataclasses.replace(cache, argmax=np.full_like(cache.argmax, 7))
    with pytest.raises(ValueError, match=r"^cache\.argmax: got a value of 7"):
        F.batch_norm_relu_backward(y, spoilt)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.Linear("a", 3, 3, dtype=int), "dtype: got int64, wants float32"),
        (lambda: layers.ConvBlock("a", 3, 3, dtype=np.float16), "dtype: got float16, wants"),
        (lambda: layers.Conv2d("a", 3, 3, 3, dtype="foo"), "dtype: got str 'foo', wants float32"),
        (lambda: BatchNormReLU("a", 3, dtype=">f4"), "dtype: got >f4, wants float32"),
        (lambda: layers.Sequential([1, 2]), "layers: got int 1, wants layers only"),  # type: ignore[list-item]
        (lambda: optim.Adam([1]), "parameters: got int 1, wants Parameters only"),  # type: ignore[list-item]
    ],
)
def test_what_a_layer_is_made_of(make: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=f"^{message}"):
        make()


def test_more_than_any_memory(variant: str) -> None:
    w = np.ones((16, 3, 3, 3), np.float32)
    # A GPU's kernels count elements in 32 bits, and say so where the computer grants any memory.
    refused = r"unable to allocate .* GiB|wants at most 2147483647"
    with pytest.raises((MemoryError, RuntimeError), match=refused):
        F.conv2d(X, w, None, padding=10**5)
