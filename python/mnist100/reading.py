"""What a model reads in pictures: the most probable numbers, and the 28×56 pixels it was shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist100.models import Model
from mnist100.pictures import Grey, pair_image

SURE = 0.5
"""Probability from which on a number is given as read: what is below is more likely another one."""


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

    @property
    def reason(self) -> str:
        """Why the answer is not sure; empty if it is: then one number is more probable than all others together."""
        ((label, probability),) = self.most_probable(1)
        if probability >= SURE:
            return ""
        return f"{label:02d} is the most probable, but only at {100 * probability:.1f} %"

    def most_probable(self, count: int) -> list[tuple[int, float]]:
        """Return the numbers that are most probable and their probabilities, best first; equal ones in order."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(int(label), float(self.probabilities[label])) for label in order]

    def as_dict(self, topk: int) -> dict[str, Any]:
        """Return the state, its reason, the most probable number and the `topk` first ones, ready for JSON.

        The state is "number", or "unsure" where there is a `reason`.
        """
        found = [
            {"label": label, "probability": probability}
            for label, probability in self.most_probable(topk)
        ]
        state = "unsure" if self.reason else "number"
        return {"state": state, "reason": self.reason, **found[0], "topk": found}


def read(model: Model, pictures: Sequence[Grey]) -> list[Reading]:
    """Read the numbers in pictures, uint8 (height, width), which are brought to MNIST-100's form first.

    Raises
    ------
    NoNumberError
        If a picture does not show two digits.
    """
    if not pictures:
        return []
    seen = np.stack([pair_image(picture) for picture in pictures])
    return [Reading(*one) for one in zip(seen, model.predict_proba(seen), strict=True)]
