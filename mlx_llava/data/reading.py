"""Reads a file of records for training: all are checked, and all faults are reported together."""

from operator import itemgetter
from pathlib import Path

from mlx_llava.data.bad_records import BadRecord, refusal
from mlx_llava.data.builder import ExampleBuilder
from mlx_llava.data.dataset import Dataset
from mlx_llava.data.image_files import image_faults
from mlx_llava.data.scan import Report
from mlx_llava.data.scan_memory import recall_or_scan
from mlx_llava.errors import RecordError, UsageError


def read(
    path: Path,
    images: Path | None,
    split: str = "train",
    *,
    builder: ExampleBuilder | None = None,
    skip_bad: bool = False,
    num_workers: int = 0,
    report: Report = lambda done, total: None,
) -> Dataset:
    """Read and check all records of a file, or of a folder's split: `train`, `valid` or `test`, laid out as in mlx-lm.

    Args:
        images: the folder of the images; all that records name must exist.
        builder: builds the examples that all records must become.
        skip_bad: leave bad records out, and list them in `left_out`.

    Raises RecordError that names the bad records, their lines and fields; UsageError if the file or folder is missing.
    """
    file = path / f"{split}.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise UsageError(f"{file}: no such file", f"Name a JSON or JSON-lines file, or a folder with {split}.jsonl.")
    result = recall_or_scan(file, builder, num_workers, report)
    dataset = Dataset(file, result.fingerprint, result.stamp, result.table, result.images, result.bad)
    dataset = dataset.without(_bad_images(dataset, images))
    if dataset.left_out and not (skip_bad and len(dataset)):
        raise refusal(file, dataset.left_out, may_leave_out=len(dataset) > 0)
    if not len(dataset):
        raise RecordError(f"{file}: no records to train on", "Give at least one conversation.")
    misfits = dataset.indices(result.misfits)
    if misfits and not (skip_bad and len(misfits) < len(dataset)):
        raise refusal(file, [*misfits.values()], may_leave_out=len(misfits) < len(dataset))
    return dataset.without(misfits)


def _bad_images(dataset: Dataset, folder: Path | None) -> dict[int, BadRecord]:
    """The records, by index, that name images which do not exist or lie outside the folder."""
    names = dataset.images.names()
    if names and folder is None:
        what = "an image" if len(names) == 1 else f"{len(names)} images"
        raise UsageError(f"{dataset.file}: names {what}, but no image folder is given", "Give --images.")
    if names and folder is not None and not folder.is_dir():
        raise UsageError(f"{folder}: no such folder", "Give --images the folder that the image paths start from.")
    faults = dict(image_faults(names.values(), folder or Path()))
    if not faults:
        return {}
    problems = {number: faults[name] for number, name in names.items() if name in faults}
    advice = "Check --images and the names of the images."
    users = sorted(dataset.images.users(problems), key=itemgetter(1))
    return {index: dataset.bad_record(index, problems[number], advice) for index, number in users}
