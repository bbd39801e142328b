"""The networks, and the model: a network with the normalisation of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import _checks as check
from . import functional as F  # noqa: N812
from ._checks import Array
from .batch_norm import BatchNormReLU
from .halves import Halves, PairLogits
from .layers import (
    Conv2d,
    ConvBlock,
    Dropout,
    Flatten,
    Layer,
    Linear,
    LinearBlock,
    Parameter,
    Sequential,
    to_nchw,
)
from .modelfile import MAX_STAGE_DEPTH, MAX_STAGES
from .operations import Operations
from .parameters import Tensor, fan_in_uniform
from .views import shifted_views

if TYPE_CHECKING:
    from .data import Normalisation

CLASSES = 100
IMAGE = (28, 56)
DIGITS = 10
PREDICT_BATCH = 1024  # 6 MB of input at a time


class Model:
    """A network that tells what images show: two digits of 28x56 pixels, if nothing else is said.

    Attributes
    ----------
    architecture : name in `ARCHITECTURES`
    image_shape : height and width of its images
    classes : number of its labels
    net : the layers
    ops : the functions they compute with, those of a backend
    normalisation : mean, deviation and clip of the training set's pixels; None until training sets it
    test_shifts : pixels by which digits are moved, each way, for the answers to be averaged; 0 is no average
    metadata : JSON-ready facts saved with the weights
    """

    def __init__(
        self,
        architecture: str,
        layers: list[Layer],
        *,
        image_shape: tuple[int, int] = IMAGE,
        classes: int = CLASSES,
    ) -> None:
        self.architecture = architecture
        self.image_shape = image_shape
        self.classes = classes
        self.net = Sequential(layers)
        self.ops: Operations = F
        self.normalisation: Normalisation | None = None
        self.test_shifts = 0
        self.metadata: dict[str, Any] = {}

    def use(self, ops: Operations) -> None:
        """Compute with the functions of another backend from now on."""
        self.ops = ops
        self.net.use(ops)

    def parameters(self) -> list[Parameter]:
        """Every parameter, in the order of the layers."""
        return list(self.net.parameters)

    def tensors(self) -> list[Tensor]:
        """Every parameter, then every buffer, in the order of the layers: all that training changes."""
        return self.net.tensors()

    def __call__(self, x: Array) -> Array:
        """Logits (n, classes) in evaluation mode.

        Parameters
        ----------
        x : float32 (n, 1, height, width), standardised; of two digits (n, 1, 28, 56)
        """
        return to_nchw(self.net(self.check_input(x)))

    def check_input(self, x: Array) -> Array:
        """A batch (n, 1, height, width) of the dtype of the weights."""
        x = check.array("x", x, self.net.parameters[0].value.dtype, 4)
        height, width = self.image_shape
        if x.shape[1:] != (1, height, width):
            raise check.fail("x", check.describe(x), f"shape (n, 1, {height}, {width})")
        return x

    @contextmanager
    def one_view(self) -> Iterator[None]:
        """Inside the `with` block, digits are looked at as they are, without `test_shifts`."""
        shifts, self.test_shifts = self.test_shifts, 0
        try:
            yield
        finally:
            self.test_shifts = shifts

    def inputs_of(
        self,
        digits: npt.NDArray[np.uint8],
        pairs: npt.NDArray[np.int32],
        rows: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.float32]:
        """Pairs of digits as the network takes them: float32 (n, 1, 28, 56), standardised and clipped.

        Parameters
        ----------
        digits : raw pixels, (k, 28, 28)
        pairs : places in `digits`, (m, 2)
        rows : which pairs, (n,)

        Raises ValueError if the model has no normalisation.
        """
        if self.normalisation is None:
            raise ValueError("model.normalisation: got None, wants that of the training set")
        norm = self.normalisation
        return self.ops.input_batch(digits, pairs, rows, norm.mean, norm.std, clip=norm.clip)

    def logits_of(
        self,
        digits: npt.NDArray[np.uint8],
        pairs: npt.NDArray[np.int32],
        rows: npt.NDArray[np.int64],
    ) -> Array:
        """Logits (n, classes) of pairs of digits, given as to `inputs_of`.

        With `test_shifts` they are the logarithms of the mean probabilities over digits that are moved
        by up to so many pixels each way, both of a pair alike.
        """
        if not self.test_shifts:
            return self(self.inputs_of(digits, pairs, rows))
        own = digits[pairs[rows]].reshape(-1, *digits.shape[1:])
        places = np.arange(len(own), dtype=np.int32).reshape(-1, 2)
        every = np.arange(len(places))
        chances = [
            self.ops.softmax(self(self.inputs_of(view, places, every)))
            for view in shifted_views(own, self.test_shifts)
        ]
        mean = np.mean(chances, axis=0, dtype=np.float32)
        return np.log(np.maximum(mean, np.finfo(np.float32).tiny))

    def predict(self, images: Array) -> npt.NDArray[np.int64]:
        """Most probable label of each image, 0..99: int64 (n,). For networks of two digits.

        Parameters
        ----------
        images : raw pixels, uint8 (n, 28, 56), (28, 56) or (n, 1568)
        """
        batches = [logits.argmax(axis=1) for logits in self._logits(images)]
        return np.concatenate(batches) if batches else np.empty(0, np.int64)

    def predict_proba(self, images: Array) -> npt.NDArray[np.float32]:
        """Probability of each label: float32 (n, 100). `images` as in `predict`."""
        batches = [self.ops.softmax(logits) for logits in self._logits(images)]
        return np.concatenate(batches) if batches else np.empty((0, self.classes), np.float32)

    def _logits(self, images: Array) -> Iterator[Array]:
        pixels = raw_pixels(images)
        for first in range(0, len(pixels), PREDICT_BATCH):
            batch = pixels[first : first + PREDICT_BATCH]
            n = len(batch)
            digits = batch.reshape(n, 28, 2, 28).swapaxes(1, 2).reshape(2 * n, 28, 28)
            pairs = np.arange(2 * n, dtype=np.int32).reshape(n, 2)
            yield self.logits_of(digits, pairs, np.arange(n))


def raw_pixels(images: Array) -> npt.NDArray[np.uint8]:
    """Images in any of the forms `Model.predict` takes, as uint8 (n, 28, 56)."""
    wants = "uint8 pixels of shape (n, 28, 56), (28, 56) or (n, 1568)"
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        raise check.fail_type("images", check.describe(images), wants)
    if images.shape == (28, 56):
        return images[np.newaxis]
    if images.ndim == 3 and images.shape[1:] == (28, 56):
        return images
    if images.ndim == 2 and images.shape[1] == 28 * 56:
        return images.reshape(-1, 28, 56)
    raise check.fail("images", check.describe(images), wants)


def cnn(
    *,
    dropout: float = 0.4,
    seed: int = 0,
    dtype: npt.DTypeLike = np.float32,
    image_shape: tuple[int, int] = IMAGE,
    classes: int = CLASSES,
) -> Model:
    """The reference network, 833,572 parameters for two digits.

    Conv(3x3, 1→16) → ReLU → MaxPool(2) → Conv(3x3, 16→32) → ReLU → MaxPool(2) → Flatten (32·7·14)
    → Linear(256) → ReLU → Dropout → Linear(100)

    Images have at least 4 pixels each way, what the pools leave something of.
    """
    seed = check.word("seed", seed)
    height, width = image_shape = check.pair("image_shape", image_shape, 4)
    return Model(
        "cnn",
        [
            ConvBlock("conv1", 1, 16, seed=seed, stream=0, dtype=dtype),
            ConvBlock("conv2", 16, 32, seed=seed, stream=1, dtype=dtype),
            Flatten(),
            LinearBlock(
                "fc1",
                32 * (height // 4) * (width // 4),
                256,
                dropout,
                dropout_seed=dropout_seed(seed, 0),
                seed=seed,
                stream=2,
                dtype=dtype,
            ),
            Linear("fc2", 256, classes, seed=seed, stream=3, dtype=dtype),
        ],
        image_shape=image_shape,
        classes=classes,
    )


def mlp(
    *,
    dropout: float = 0.4,
    seed: int = 0,
    dtype: npt.DTypeLike = np.float32,
    image_shape: tuple[int, int] = IMAGE,
    classes: int = CLASSES,
) -> Model:
    """The dense baseline: 1568 → 512 → 256 → 100, ReLU and dropout between; 960,356 parameters.

    That many for two digits; features that are no image are one of a single row.
    """
    seed = check.word("seed", seed)
    height, width = image_shape = check.pair("image_shape", image_shape, 1)

    def block(layer: int, in_features: int, out_features: int) -> LinearBlock:
        return LinearBlock(
            f"fc{layer + 1}",
            in_features,
            out_features,
            dropout,
            dropout_seed=dropout_seed(seed, layer),
            seed=seed,
            stream=layer,
            dtype=dtype,
        )

    return Model(
        "mlp",
        [
            Flatten(),
            block(0, height * width, 512),
            block(1, 512, 256),
            Linear("fc3", 256, classes, seed=seed, stream=2, dtype=dtype),
        ],
        image_shape=image_shape,
        classes=classes,
    )


def siamese(
    *,
    channels: Sequence[Sequence[int]] = ((16,), (32, 32), (64, 64)),
    dropout: float = 0.0,
    seed: int = 0,
    dtype: npt.DTypeLike = np.float32,
) -> Model:
    """One network for both halves of the image, 75,450 parameters: the digits are read independently.

    Halves → stages → Flatten (64·3·3) → Dropout → Linear(10), then z[10·a + b] = left[a] + right[b]. A
    stage is Conv(3x3) → BatchNorm → ReLU for each of its widths, and MaxPool(2). The head is shared too:
    a digit looks the same on either side.

    Weights start as U(-1/√fan_in, 1/√fan_in), six times less variance than He's: batch normalisation undoes
    the scale of what precedes it but not its gradient, so that smaller weights learn faster, and a small
    head does not begin sure of itself.

    Parameters
    ----------
    channels : of the convolutions of each stage; multiples of 16 are the fastest. Convolution j of stage i
        is called ``conv{i}_{j}``, from 1
    """
    seed = check.word("seed", seed)
    if not all(isinstance(widths, Sequence) for widths in channels):
        raise check.fail_type("channels", channels, "a sequence of widths for each stage")
    if not channels or not all(0 < len(widths) <= MAX_STAGE_DEPTH for widths in channels):
        wants = f"stages of one to {MAX_STAGE_DEPTH} widths"
        raise check.fail("channels", channels, wants)
    if len(channels) > MAX_STAGES:
        wants = f"at most {MAX_STAGES}: 28 pixels halve no further"
        raise check.fail("channels", f"{len(channels)} stages", wants)
    layers: list[Layer] = [Halves()]
    before, stream = 1, 0
    for stage, widths in enumerate(channels, start=1):
        for place, count in enumerate(widths, start=1):
            last = place == len(widths)
            conv = Conv2d(
                f"conv{stage}_{place}",
                before,
                count,
                3,
                padding=1,
                bias=False,
                seed=seed,
                stream=stream,
                init=fan_in_uniform,
                dtype=dtype,
            )
            # What follows the last pool is flattened, and reads no border.
            border = 0 if last and stage == len(channels) else 1
            layers += [
                conv,
                BatchNormReLU(f"bn{stage}_{place}", count, pool=last, border=border, dtype=dtype),
            ]
            before, stream = count, stream + 1
    features = before * (IMAGE[0] >> len(channels)) ** 2  # each pool halves the side
    layers += [
        Flatten(),
        Dropout(dropout, seed=dropout_seed(seed, 0)),
        Linear("fc1", features, DIGITS, seed=seed, stream=stream, init=fan_in_uniform, dtype=dtype),
        PairLogits(),
    ]
    return Model("siamese", layers)


def dropout_seed(seed: int, layer: int) -> int:
    """A Philox key for each dropout layer: equal seeds must not give two layers the same mask."""
    return seed ^ (layer << 48)


ARCHITECTURES: dict[str, Callable[..., Model]] = {"cnn": cnn, "mlp": mlp, "siamese": siamese}
