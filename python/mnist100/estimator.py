"""The network as a scikit-learn classifier."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from mnist100 import _checks, _core, functional, models
from mnist100._config import set_num_threads
from mnist100.models import IMAGE, Model
from mnist100.training.arrays import ArrayInputs, Standardisation, logits_of
from mnist100.training.backends import Native
from mnist100.training.keeper import Keeper
from mnist100.training.loop import run_epochs
from mnist100.training.recipes import Recipe, load_recipe
from mnist100.training.tally import Tally
from mnist100.training.trainers import KernelTrainer

Array = npt.NDArray[Any]

_SMALLEST_IMAGE = 4  # pixels each way, for the two poolings of the cnn


class MNIST100Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # untyped bases
    """A neural network for pictures of two digits, and for other images and tables of numbers.

    Trained by the ``default`` recipe: Adam, a one-cycle learning rate, averaged weights. Features are
    standardised within, with a floor under the deviations that is relative to the range of all values;
    so raw pixels need no scaler before them, and a table needs one only if its columns differ in scale.

    Parameters
    ----------
    model : {"auto", "cnn", "mlp"}, default="auto"
        The network. "auto" is the convolutional one if X holds images, else the dense one.
    image_shape : (int, int) or None, default=None
        Height and width of the images that are the rows of X, in row-major order. None is what a
        three-dimensional X says, else (28, 56) if there are 1568 features, else no image.
    augmentation : {"auto"} or bool, default="auto"
        Whether to turn, scale, shear and move the two digits of a picture at random in training. That
        takes images of 28×56 with whole numbers from 0 to 255; "auto" does it with these alone.
    epochs : int, default=20
        Passes over the training data, at most.
    batch_size : int, default=256
        Samples in one step.
    learning_rate : float, default=3e-3
        The peak of the one-cycle schedule.
    reg_lambda : float, default=1e-4
        λ of the term λ/(2·B)·ΣW² in the loss of a batch of B, over weights and no bias.
    dropout : float, default=0.4
        Probability that a hidden unit is dropped in training.
    early_stopping : bool, default=False
        Whether to set some training data aside, stop when accuracy on them does not rise, and keep the
        weights that did best there; otherwise the last weights are kept.
    validation_fraction : float, default=0.1
        The part to set aside, stratified by class.
    patience, min_delta : int and float, default=10 and 0.0
        Early stopping: how many epochs in a row may fail to count, and by how much (a fraction) accuracy
        must beat the best for an epoch to count.
    random_state : int, RandomState instance or None, default=None
        Of the weights, the order, dropout, augmentation and what is set aside. An int makes the outcome
        the same in every bit, whatever the number of threads.
    n_jobs : int or None, default=None
        Threads of the kernels; -1 is one for each processor, None what `mnist100.set_num_threads` or
        ``OMP_NUM_THREADS`` said.

    Attributes
    ----------
    classes_ : array, shape (n_classes,)
        The labels, sorted.
    n_features_in_ : int
        Features of X, the pixels of its images if they are that.
    feature_names_in_ : array, shape (n_features_in_,)
        Their names, if X had names that are all strings.
    model_ : mnist100.models.Model
        The trained network.
    image_shape_ : (int, int)
        Of its images; one row if X holds no images.
    n_iter_ : int
        Epochs done.
    history_ : tuple of mnist100.training.EpochRecord
        What each epoch came to.

    Examples
    --------
    >>> classifier = MNIST100Classifier(epochs=5, random_state=0)
    >>> classifier.fit(X_train, y_train).score(X_test, y_test)  # uint8 (N, 28, 56) or (N, 1568)
    """

    def __init__(
        self,
        *,
        model: str = "auto",
        image_shape: tuple[int, int] | None = None,
        augmentation: str | bool = "auto",
        epochs: int = 20,
        batch_size: int = 256,
        learning_rate: float = 3e-3,
        reg_lambda: float = 1e-4,
        dropout: float = 0.4,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        min_delta: float = 0.0,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.model = model
        self.image_shape = image_shape
        self.augmentation = augmentation
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.reg_lambda = reg_lambda
        self.dropout = dropout
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.min_delta = min_delta
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any) -> Self:
        """Train the network.

        Parameters
        ----------
        X : array-like, shape (n_samples, n_features) or (n_samples, height, width)
            Numbers, such as pixels from 0 to 255.
        y : array-like, shape (n_samples,)
            Labels of any kind that scikit-learn takes.

        Raises
        ------
        ValueError
            If a parameter, X or y is not of that kind; the message says what is wanted.
        TrainingError
            If the loss or a weight is no longer finite.
        KeyboardInterrupt
            On Ctrl-C, after the step in progress.
        """
        X, image_shape = self._flat(X)
        X, y = validate_data(self, X, y)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        image_shape = self._images_of(X, image_shape)
        recipe = self._recipe(image_shape)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        self.image_shape_ = image_shape or (1, X.shape[1])
        self._dropout = recipe.dropout
        self._standardise = Standardisation.fit(X, std_floor=recipe.std_floor, clip=recipe.clip)
        self.model_ = models.ARCHITECTURES[recipe.model](
            dropout=recipe.dropout,
            seed=seed,
            image_shape=self.image_shape_,
            classes=len(self.classes_),
        )
        deform = self._deforms(X, image_shape)
        X, labels, dev = self._set_aside(X, labels, seed)
        inputs = ArrayInputs(
            X,
            labels,
            dev,
            standardise=self._standardise,
            recipe=recipe,
            seed=seed,
            image_shape=self.image_shape_,
            deform=deform,
        )
        keeper = Keeper(self.model_, Native(), recipe, None)
        with _threads(self.n_jobs):
            trainer = KernelTrainer(self.model_, recipe)
            run_epochs(self.model_, recipe, inputs, trainer, keeper, Tally(1), {})
        self.history_ = keeper.result().history
        self.n_iter_ = len(self.history_)
        return self

    def predict(self, X: Any) -> Array:
        """Return the most probable label of each sample, shape (n_samples,). X as in `fit`."""
        found = [logits.argmax(axis=1) for logits in self._logits(X)]
        labels: Array = self.classes_[np.concatenate(found)]
        return labels

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Return the probability of each of `classes_`, (n_samples, n_classes). X as in `fit`."""
        # In float64, so that they add up to 1 as nearly as scikit-learn expects.
        logits = (part.astype(np.float64) for part in self._logits(X))
        return np.concatenate([functional.softmax(part) for part in logits])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes, the network as plain arrays."""
        state: dict[str, Any] = dict(super().__getstate__())
        if "model_" in state:
            model: Model = state["model_"]
            weights = [parameter.value for parameter in model.parameters()]
            state["model_"] = (model.architecture, weights)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "model_" in state:
            architecture, weights = state["model_"]
            self.model_ = models.ARCHITECTURES[architecture](
                dropout=self._dropout, image_shape=self.image_shape_, classes=len(self.classes_)
            )
            for parameter, value in zip(self.model_.parameters(), weights, strict=True):
                parameter.value[...] = value

    def _logits(self, X: Any) -> Iterator[npt.NDArray[np.float32]]:
        check_is_fitted(self)
        X, shape = self._flat(X)
        X = validate_data(self, X, reset=False)
        if shape not in (None, self.image_shape_):
            raise _checks.fail(
                "X", f"images of {shape}", f"images of {self.image_shape_}, as in fit"
            )
        with _threads(self.n_jobs):
            yield from logits_of(self.model_, self._standardise, X)

    def _flat(self, X: Any) -> tuple[Any, tuple[int, int] | None]:
        """Return X with a row a sample, and the shape of its images if it says one."""
        if isinstance(X, (list, tuple)):
            X = np.asarray(X)
        if isinstance(X, np.ndarray) and X.ndim == 3:
            return X.reshape(len(X), math.prod(X.shape[1:])), (X.shape[1], X.shape[2])
        return X, None

    def _images_of(self, X: Array, shape: tuple[int, int] | None) -> tuple[int, int] | None:
        """Return the shape of the images that the rows of X are; None if they are none."""
        features = X.shape[1]
        if self.image_shape is not None:
            given = _checks.pair("image_shape", _plain(self.image_shape), 1)
            if math.prod(given) != features or shape not in (None, given):
                has = f"images of {shape}" if shape else f"{features} features"
                raise _checks.fail(
                    "image_shape", given, f"the shape of an image of X, which has {has}"
                )
            return given
        return IMAGE if shape is None and features == math.prod(IMAGE) else shape

    def _recipe(self, image_shape: tuple[int, int] | None) -> Recipe:
        """Return the recipe with the parameters, checked."""
        if self.model not in ("auto", "cnn", "mlp"):
            raise _checks.fail("model", repr(self.model), "'auto', 'cnn' or 'mlp'")
        is_image = image_shape is not None and min(image_shape) >= _SMALLEST_IMAGE
        if self.model == "cnn" and not is_image:
            wants = f"X of images of at least {_SMALLEST_IMAGE} pixels each way; see image_shape"
            raise _checks.fail("model", "'cnn'", wants)
        model = self.model if self.model != "auto" else "cnn" if is_image else "mlp"
        keys = (
            *("epochs", "batch_size", "learning_rate", "reg_lambda"),
            *("dropout", "patience", "min_delta"),
        )
        values = {key: _plain(getattr(self, key)) for key in keys}
        return load_recipe("default").replace(model=model, **values)

    def _deforms(self, X: Array, image_shape: tuple[int, int] | None) -> bool:
        """Return whether to augment X."""
        asked = _plain(self.augmentation)
        if asked != "auto" and not isinstance(asked, bool):  # 1 == True
            raise _checks.fail("augmentation", repr(self.augmentation), "'auto', True or False")
        if not asked:
            return False
        possible = image_shape == IMAGE and _is_pixels(X)
        if asked is True and not possible:
            wants = "X of images of 28×56, whole numbers from 0 to 255"
            raise _checks.fail("augmentation", "True", wants)
        return possible

    def _set_aside(
        self, X: Array, labels: Array, seed: int
    ) -> tuple[Array, Array, tuple[Array, Array] | None]:
        """Take what early stopping chooses on from the training data."""
        if not self.early_stopping:
            return X, labels, None
        fraction = _checks.real("validation_fraction", _plain(self.validation_fraction), 0.0, 1.0)
        least = len(self.classes_)
        if not least <= math.ceil(fraction * len(X)) <= len(X) - least:
            wants = (
                f"a fraction that leaves {least} of {len(X)} samples, one a class, on either side"
            )
            raise _checks.fail("validation_fraction", self.validation_fraction, wants)
        train, dev = train_test_split(
            np.arange(len(X)), test_size=fraction, stratify=labels, random_state=seed
        )
        return X[train], labels[train], (X[dev], labels[dev])


def _plain(value: Any) -> Any:
    """Return NumPy's numbers, of which grids are made, as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _is_pixels(X: Array) -> bool:
    if X.dtype == np.uint8:
        return True
    return bool(X.min() >= 0 and X.max() <= 255 and (np.floor(X) == X).all())


@contextmanager
def _threads(n_jobs: int | None) -> Iterator[None]:
    """Compute with this many threads for a while."""
    if n_jobs is None:
        yield
        return
    before = _core.num_threads()
    threads = (os.cpu_count() or 1) if n_jobs == -1 else _plain(n_jobs)
    set_num_threads(_checks.integer("n_jobs", threads, 1, 1024))
    try:
        yield
    finally:
        set_num_threads(before)
