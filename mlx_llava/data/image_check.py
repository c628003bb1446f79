"""Opens every image of a dataset before it is trained on, unless it was readable before and has not changed since."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mlx_llava.config import ImageConfig
from mlx_llava.data.bad_records import BadRecord, refusal
from mlx_llava.data.dataset import Dataset
from mlx_llava.data.examples import Examples
from mlx_llava.data.loader import loader
from mlx_llava.data.readable_images import ReadableImages, file_keys
from mlx_llava.errors import ImageError
from mlx_llava.images.pixels import check_shape, open_image

CHUNK = 64  # images opened in one job
Fault = tuple[str, str]  # problem, advice


@dataclass(frozen=True)
class ImageCheck:
    """Opens images; can be sent to a worker."""

    folder: Path
    config: ImageConfig

    def __call__(self, names: Sequence[str]) -> list[Fault | None]:
        """For each image, why it is unreadable."""
        return [self._fault(self.folder / name) for name in names]

    def _fault(self, path: Path) -> Fault | None:
        try:
            check_shape(open_image(path, "training").size, self.config, str(path))
        except ImageError as error:
            return error.problem, error.advice
        return None


def with_readable_images(
    examples: Examples, *, leave_out: bool = False, num_workers: int = 0, report: Callable[[int, int], object]
) -> Examples:
    """Open all images; records with an unreadable one raise ImageError, or are left out.

    Args:
        report: receives the number of images opened so far, and of all that have to be opened.
    """
    images = examples.dataset.images.names()
    faults = _open(examples.builder.images or Path(), examples.builder.image, images, num_workers, report)
    bad = _bad_records(examples.dataset, faults) if faults else {}
    if bad and not (leave_out and len(bad) < len(examples)):
        error = refusal(examples.dataset.file, list(bad.values()), may_leave_out=len(bad) < len(examples))
        raise ImageError(error.problem, error.advice)
    return replace(examples, dataset=examples.dataset.without(bad))


def _open(
    folder: Path, config: ImageConfig, images: dict[int, str], num_workers: int, report: Callable[[int, int], object]
) -> dict[int, Fault]:
    """Open the images that are not known to be readable; returns the faults of the unreadable ones."""
    names, readable = [*images.values()], ReadableImages(folder, config)
    keys = file_keys(folder, names, num_workers)
    unknown = np.flatnonzero(~readable.has(keys))
    chunks = [unknown[start : start + CHUNK] for start in range(0, len(unknown), CHUNK)]
    jobs = ((chunk, [names[place] for place in chunk]) for chunk in chunks)
    numbers, faults, good, done = [*images], dict[int, Fault](), list[int](), 0
    try:
        with loader(ImageCheck(folder, config), jobs, num_workers if len(chunks) > 1 else 0) as results:
            for chunk, chunk_faults in results:
                faults |= {numbers[place]: fault for place, fault in zip(chunk, chunk_faults, strict=True) if fault}
                good += [place for place, fault in zip(chunk, chunk_faults, strict=True) if fault is None]
                done += len(chunk)
                report(done, len(unknown))
    finally:
        readable.add(keys[good])
    return faults


def _bad_records(dataset: Dataset, faults: dict[int, Fault]) -> dict[int, BadRecord]:
    """The records, by index, with one of these images."""
    bad = dict[int, BadRecord]()
    for index, number in dataset.images.users(faults):
        bad.setdefault(index, dataset.bad_record(index, *faults[number]))
    return bad
