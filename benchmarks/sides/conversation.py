"""The conversation about one image that every side trains on, as token ids and pixels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sides.timing import between

IMAGE_ID, FIRST_ROW, NUM_ROWS = 530, 5, 256  # of model.SMALL
LENGTH, ANSWER = 307, 24  # tokens, of which the last ANSWER are the answer
RATE = 1e-4


def tokens() -> NDArray[np.int32]:
    """Ids `[1, LENGTH]`, with IMAGE_ID at each row of the image."""
    ids = np.random.default_rng(0).integers(3, 500, (1, LENGTH)).astype(np.int32)
    ids[:, FIRST_ROW : FIRST_ROW + NUM_ROWS] = IMAGE_ID
    return ids


def answers() -> NDArray[np.bool_]:
    """Label mask `[1, LENGTH]`."""
    return np.arange(LENGTH)[None] >= LENGTH - ANSWER


def pixels() -> NDArray[np.float32]:
    """The image `[1, side, side, 3]`."""
    return np.random.default_rng(1).standard_normal((1, 224, 224, 3)).astype(np.float32)


def report(times: list[float], loss: float, peak: int | None = None) -> dict[str, Any]:
    """A side's result: the median step after a warm-up, the first loss, and the peak memory of MLX."""
    return {"seconds": between(times[1:]), "loss": loss, "peak": peak}
