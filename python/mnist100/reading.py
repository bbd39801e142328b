"""What a model reads in pictures: the most probable numbers, and the 28×56 pixels it was shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist100.models import Model
from mnist100.pictures import Grey, pair_image


@dataclass(frozen=True, eq=False)
class Reading:
    """What a model reads in one picture.

    Parameters
    ----------
    seen
        What the network was shown, uint8 (28, 56).
    probabilities
        Of each number, float32 (100,).
    """

    seen: Grey
    probabilities: npt.NDArray[np.float32]

    def most_probable(self, count: int) -> list[tuple[int, float]]:
        """Return the numbers that are most probable and their probabilities, best first; equal ones in order."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(int(label), float(self.probabilities[label])) for label in order]

    def as_dict(self, topk: int) -> dict[str, Any]:
        """Return the most probable number and the `topk` first ones as plain values, ready for JSON."""
        found = [
            {"label": label, "probability": probability}
            for label, probability in self.most_probable(topk)
        ]
        return {**found[0], "topk": found}


def read(model: Model, pictures: Sequence[Grey]) -> list[Reading]:
    """Read the numbers in pictures, uint8 (height, width), which are brought to MNIST-100's form first.

    Raises
    ------
    PictureError
        If a picture does not show two digits.
    """
    if not pictures:
        return []
    seen = np.stack([pair_image(picture) for picture in pictures])
    return [Reading(*one) for one in zip(seen, model.predict_proba(seen), strict=True)]
