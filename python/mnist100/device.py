"""Arrays and networks in a GPU's memory, for a build with CUDA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _checks as check
from . import _core
from ._checks import Array
from .batch_norm import BatchNormReLU
from .halves import Halves, PairLogits
from .layers import Conv2d, ConvBlock, Dropout, Flatten, Layer, Linear, LinearBlock, Sequential
from .optim import Adam
from .padded import Activation, to_nchw
from .parameters import Tensor

_PIXELS = (28, 56)
_CUDA = 2  # DLPack's number of that kind of device
_DEFAULT_STREAM = 1  # and of its default stream


def check_device() -> None:
    """Refuse to go on where there is no GPU that our kernels can use.

    Raises
    ------
    RuntimeError
        If the package was built without CUDA, or finds no GPU.
    """
    if "cuda" not in _core.isas():
        raise RuntimeError(
            "this mnist100 was built without CUDA; build it with: pip install . -C "
            "cmake.define.MNIST100_CUDA=ON"
        )
    if "cuda" not in _core.supported_isas():
        raise RuntimeError("no CUDA GPU was found, or its driver is too old")


def layer_specs(layers: tuple[Layer, ...]) -> list[Any]:
    """Describe layers to the engine.

    Raises
    ------
    TypeError
        If it has no such layer.
    """
    specs = [_spec(layer) for layer in layers if not isinstance(layer, Flatten)]
    first = layers[0]
    if isinstance(first, ConvBlock):  # the images come without a border
        specs.insert(0, _core.LayerSpec("pad", border=first.border))
    for place, layer in enumerate(layers):
        if isinstance(layer, Flatten) and place > 0:
            specs.insert(place + isinstance(first, ConvBlock), _core.LayerSpec("unpad"))
    return specs


def _spec(layer: Layer) -> Any:
    if isinstance(layer, Halves):
        return _core.LayerSpec("halves", border=layer.border)
    if isinstance(layer, ConvBlock):
        oc, _, *kernel = layer.weight.value.shape
        return _core.LayerSpec("conv_block", size=oc, kernel=tuple(kernel), border=layer.border)
    if isinstance(layer, Conv2d) and layer.is_same and layer.bias is None and not layer.relu:
        oc, _, *kernel = layer.weight.value.shape
        return _core.LayerSpec("conv_same", size=oc, kernel=tuple(kernel), border=layer.border)
    if isinstance(layer, BatchNormReLU):
        return _core.LayerSpec("batch_norm", border=layer.border, pool=layer.pool)
    if isinstance(layer, Dropout):
        return _core.LayerSpec("dropout", p=layer.p, seed=layer.seed)
    if isinstance(layer, LinearBlock):
        size = len(layer.weight.value)
        return _core.LayerSpec("linear_block", size=size, p=layer.p, seed=layer.dropout_seed)
    if isinstance(layer, Linear):
        return _core.LayerSpec("linear", size=len(layer.weight.value))
    if isinstance(layer, PairLogits):
        return _core.LayerSpec("pair_logits")
    raise TypeError(f"layers: got {type(layer).__name__}, wants one that the GPU has")


class DeviceArray:
    """A float32 array in the GPU's memory, which DLPack shares with other libraries without a copy.

    ``torch.from_dlpack(array)`` and ``asarray(tensor)`` see one memory: what one writes, the other reads.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, handle: _core.DeviceArray) -> None:
        self._handle = handle

    @property
    def handle(self) -> _core.DeviceArray:
        """What the compiled part knows of the array."""
        return self._handle

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return self._handle.shape

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype})"

    def numpy(self) -> npt.NDArray[np.float32]:
        """Return a copy in the CPU's memory."""
        return self._handle.numpy()

    def reshape(self, *shape: int) -> DeviceArray:
        """Return the same memory in another shape of that size.

        Raises
        ------
        ValueError
            If the size is another.
        """
        return DeviceArray(self._handle.reshape(shape))

    def __dlpack_device__(self) -> tuple[int, int]:
        """Return DLPack's kind and number of the device."""
        return _core.dlpack_device()

    def __dlpack__(
        self,
        *,
        stream: object = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """Return a DLPack capsule of the same memory; nothing is at work on it, on any stream.

        Raises
        ------
        BufferError
            If another device or a copy is asked for.
        """
        if copy or dl_device not in (None, self.__dlpack_device__()):
            raise BufferError("a DeviceArray is shared where it lies; take numpy() for a copy")
        return self._handle.to_dlpack()


def asarray(x: Any) -> DeviceArray:
    """Return a float32 array in the GPU's memory.

    Parameters
    ----------
    x : float32 NumPy array, which is copied, or an array of a library that speaks DLPack, such as a PyTorch
        tensor, in this GPU's memory, contiguous and of float32: its memory is shared

    Raises
    ------
    RuntimeError
        If there is no GPU.
    TypeError, ValueError
        If it is something else, or lies elsewhere.
    """
    check_device()
    if isinstance(x, DeviceArray):
        return x
    if isinstance(x, np.ndarray):
        return DeviceArray(_core.DeviceArray(check.array("x", x, np.float32)))
    if not hasattr(x, "__dlpack__"):
        raise check.fail_type("x", check.describe(x), "a NumPy array or what speaks DLPack")
    here, there = _core.dlpack_device(), tuple(int(part) for part in x.__dlpack_device__())
    if there != here:
        raise check.fail(
            "x", f"an array on DLPack's device {there}", f"one on {here}, the GPU in use"
        )
    # The producer makes the default stream wait for the data, and we wait for that stream.
    capsule = x.__dlpack__(stream=_DEFAULT_STREAM) if here[0] == _CUDA else x.__dlpack__()
    return DeviceArray(_core.DeviceArray.from_dlpack(capsule))


class DeviceNet(Sequential):
    """The layers of a network, evaluated on the GPU with the weights they have then."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__(layers)
        check_device()
        adam = Adam([])
        nothing = _core.TrainingSpec(
            batch_size=1,
            repeats=1,
            fresh_pairs=False,
            pairing_seed=0,
            shuffle_seed=0,
            augmentation_seed=0,
            beta1=adam.beta1,
            beta2=adam.beta2,
            eps=adam.eps,
            reg_lambda=0.0,
            weight_decay=0.0,
            average_decay=0.0,
            clip=0.0,
            rates=[],
        )
        plain = np.zeros(_PIXELS, np.float32)
        self._engine = _core.Engine(layer_specs(self.layers), nothing, plain, plain)

    def __call__(self, x: Activation) -> Array:
        """Logits (n, classes) of standardised images (n, 1, 28, 56), by way of the GPU."""
        return self.logits(asarray(to_nchw(x))).numpy()

    def logits(self, x: DeviceArray) -> DeviceArray:
        """Logits (n, classes) of standardised images (n, 1, 28, 56), all in the GPU's memory."""
        self._engine.write(_core.Values.EVALUATED, joined(self.tensors()))
        return DeviceArray(self._engine.logits(x.handle))


def joined(tensors: Sequence[Tensor]) -> npt.NDArray[np.float32]:
    """Return all values of tensors in a row, as the engine takes them."""
    return np.concatenate([one.value.reshape(-1) for one in tensors])


def split(values: npt.NDArray[np.float32], tensors: Sequence[Tensor]) -> list[Array]:
    """Undo `joined`; values may end before the tensors do, at the end of one."""
    parts, start = [], 0
    for tensor in tensors:
        if start == len(values):
            break
        stop = start + tensor.value.size
        parts.append(values[start:stop].reshape(tensor.value.shape))
        start = stop
    return parts
