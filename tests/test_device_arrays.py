"""Arrays in a GPU's memory that PyTorch shares, both ways and without a copy."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
import torch

from mnist100 import _core
from mnist100.data import Splits
from mnist100.device import DeviceArray, DeviceNet, asarray
from mnist100.training.device import DeviceInputs, DeviceTrainer
from mnist100.training.tally import Tally
from support import assert_same, draws, skip_without_gpu
from test_device import recipe_of
from test_training import make_digits

skip_without_gpu(__name__)

PLACE = "cuda" if _core.dlpack_device()[0] == 2 else "cpu"  # where an emulated GPU keeps its arrays


def test_numpy_arrays_go_there_and_back() -> None:
    x = draws(3, 1, 5)
    array = asarray(x)
    assert (array.shape, array.dtype, len(array)) == ((3, 1, 5), np.dtype(np.float32), 3)
    assert repr(array) == "DeviceArray(shape=(3, 1, 5), dtype=float32)"
    assert asarray(array) is array
    before = x.copy()
    x[...] = 0
    assert_same(array.numpy(), before)
    assert_same(array.reshape(5, 3).numpy(), before.reshape(5, 3))
    with pytest.raises(ValueError, match="a shape of another size"):
        array.reshape(4, 4)
    assert asarray(draws(2, 0)).numpy().shape == (2, 0)


def test_pytorch_sees_our_memory() -> None:
    x = draws(4, 6)
    array = asarray(x)
    tensor = torch.utils.dlpack.from_dlpack(array)
    assert tensor.device.type == PLACE
    assert tensor.shape == (4, 6)
    tensor[1, 2] = 7
    x[1, 2] = 7
    assert_same(array.numpy(), x)
    del array
    gc.collect()
    assert_same(tensor.cpu().numpy(), x)


def test_we_see_pytorchs_memory() -> None:
    tensor = torch.arange(12.0, device=PLACE).reshape(3, 4)
    array = asarray(tensor)
    assert array.shape == (3, 4)
    tensor[2, 3] = -1
    assert array.numpy()[2, 3] == -1
    part = asarray(tensor[1:])
    assert_same(part.numpy(), tensor[1:].cpu().numpy())
    expected = tensor.cpu().numpy()
    del tensor
    gc.collect()
    assert_same(array.numpy(), expected)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: torch.zeros(3, dtype=torch.float64, device=PLACE),
            ValueError,
            "another dtype, wants float32",
        ),
        (
            lambda: torch.zeros(3, dtype=torch.int32, device=PLACE),
            ValueError,
            "another dtype, wants float32",
        ),
        (lambda: torch.zeros(3, 4, device=PLACE).T, ValueError, "wants it contiguous"),
        (lambda: torch.zeros(8, device=PLACE)[::2], ValueError, "wants it contiguous"),
        (lambda: np.zeros(3), TypeError, "float64 array of shape .*, wants float32"),
        (lambda: [1.0, 2.0], TypeError, "wants a NumPy array or what speaks DLPack"),
    ],
)
def test_what_cannot_be_shared(make: Any, error: type[Exception], message: str) -> None:
    x = make()
    with pytest.raises(error, match=message):
        asarray(x)


class _Elsewhere:
    def __dlpack_device__(self) -> tuple[int, int]:
        return 7, 0

    def __dlpack__(self, **_: object) -> object:
        raise AssertionError("asked for what lies elsewhere")


def test_memory_of_another_device_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"x: got an array on DLPack's device \(7, 0\), wants one on"
    ):
        asarray(_Elsewhere())


def test_only_what_is_there_is_given() -> None:
    array = asarray(draws(2))
    for more in ({"copy": True}, {"dl_device": (7, 0)}):
        with pytest.raises(BufferError, match="shared where it lies"):
            array.__dlpack__(**more)
    capsule = array.__dlpack__(dl_device=array.__dlpack_device__(), copy=False)
    assert_same(DeviceArray(_core.DeviceArray.from_dlpack(capsule)).numpy(), array.numpy())
    with pytest.raises(ValueError, match="not an unread DLPack capsule"):
        _core.DeviceArray.from_dlpack(capsule)
    array.__dlpack__()  # a capsule that nobody reads frees its part


def test_a_network_reads_what_pytorch_made() -> None:
    model = recipe_of("mlp").network(3)
    x = draws(5, 1, 28, 56)
    logits = DeviceNet(model.net.layers).logits(asarray(torch.from_numpy(x).to(PLACE)))
    shared = torch.utils.dlpack.from_dlpack(logits)
    np.testing.assert_allclose(shared.cpu().numpy(), model(x), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="x: wants images of 28x56 pixels"):
        DeviceNet(model.net.layers).logits(asarray(draws(5)))


def test_pytorch_sees_weights_in_training() -> None:
    splits, recipe = Splits(make_digits(60, 1), None, make_digits(10, 3)), recipe_of("siamese")
    model = recipe.network(7)
    inputs = DeviceInputs(model, splits, recipe, 7, 1)
    trainer = DeviceTrainer(model, recipe, inputs)
    shared = {
        name: torch.utils.dlpack.from_dlpack(array) for name, array in trainer.arrays().items()
    }
    before = {name: tensor.clone() for name, tensor in shared.items()}
    trainer.train_epoch(Tally(1))
    kept = trainer.tensors()
    for name, tensor in shared.items():
        kind = "buffers" if f"buffers.{name}" in kept else "weights"
        assert_same(tensor.cpu().numpy(), kept[f"{kind}.{name}"])
        assert not torch.equal(tensor, before[name])
    del trainer, inputs
    gc.collect()
    assert all(bool(tensor.isfinite().all()) for tensor in shared.values())
