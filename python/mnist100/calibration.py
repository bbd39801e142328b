"""Whether a model is as often right as it is sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 15  # as in the paper


@dataclass(frozen=True)
class Bin:
    """The pairs whose confidence lies in (low, high].

    `confidence` and `accuracy` are their means, None if there are none.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """Confidence against accuracy.

    Parameters
    ----------
    error
        The expected calibration error: the mean over all pairs of |accuracy - confidence| of their bin,
        a fraction.
    confidence
        The mean confidence of all pairs.
    bins
        15 of equal width from 0 to 1.
    """

    error: float
    confidence: float
    bins: tuple[Bin, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, ready for JSON."""
        return {
            "ece": self.error,
            "confidence": self.confidence,
            "bins": [vars(one) for one in self.bins],
        }


def calibrate(
    confidence: npt.NDArray[np.floating[Any]], hits: npt.NDArray[np.bool_]
) -> Calibration:
    """Measure the expected calibration error, ECE.

    C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On calibration of modern neural networks" (2017).

    Parameters
    ----------
    confidence
        Probability of the predicted label, (n,), in [0, 1], n at least 1.
    hits
        Whether the prediction is right, (n,).

    Raises
    ------
    ValueError
        If there is nothing to measure, or a confidence is not a probability.
    """
    values = confidence.astype(np.float64)
    if not len(values) or not ((values >= 0) & (values <= 1)).all():
        raise ValueError("confidence: wants at least one number, all from 0 to 1")
    edges = np.arange(BINS + 1) / BINS
    # Bins are closed above; what is exactly 0 joins the first.
    places = np.maximum(np.searchsorted(edges, values, side="left") - 1, 0)
    counts = np.bincount(places, minlength=BINS)
    sure = np.bincount(places, weights=values, minlength=BINS)
    right = np.bincount(places, weights=hits, minlength=BINS)
    bins = tuple(
        Bin(
            float(edges[i]),
            float(edges[i + 1]),
            int(counts[i]),
            float(sure[i] / counts[i]) if counts[i] else None,
            float(right[i] / counts[i]) if counts[i] else None,
        )
        for i in range(BINS)
    )
    error = float(np.abs(right - sure).sum() / len(values))
    return Calibration(error, float(values.mean()), bins)
