"""The images of a row: its `image` or `images`, and the files that parts of its messages name.

A part's own file is used. A row that contradicts itself is an error, so no image is ever swapped for another.
"""

from collections.abc import Mapping, Sequence
from posixpath import normpath
from typing import Any

from mlx_llava.data.content import Mark, short
from mlx_llava.data.json_rows import Fault

COLUMNS = ("image", "images")


def image_column(row: Mapping[str, Any]) -> list[str]:
    """The images under `image` or `images`; none if it is absent, null or an empty list."""
    given = {key: row[key] for key in COLUMNS if row.get(key) is not None}
    if len(given) > 1:
        raise Fault("has both image and images")
    for key, value in given.items():
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise Fault(f"{key} is {short(value)}, not a path or a list of paths")
        if not all(name.strip() for name in names):
            raise Fault(f"{key} is {short(value)}, which names no file")
        return [_checked(name) for name in names]
    return []


def images_of(marks: Sequence[Mark], column: Sequence[str], where: str) -> tuple[str, ...]:
    """The image of each mark; `where` is the key of the conversation, for errors."""
    own = [_own(mark, column, where) for mark in marks]
    if len(own) == len(column) and all(name is None or _same([name], [c]) for name, c in zip(own, column, strict=True)):
        return tuple(column)
    named = [name for name in own if name is not None]
    if len(named) == len(own) and (not column or _same(named, column)):
        return tuple(named)
    if named and column:
        raise Fault(f"{where} shows the images {short(named)}, the row's list is {short(column)}")
    if named:
        raise Fault(f"{where} names the files of {len(named)} of its {len(own)} images")
    marks_in = f"{len(own)} image mark{'s' * (len(own) != 1)} in {where}"
    raise Fault(f"{marks_in}, but {len(column) or 'no'} image{'s' * (len(column) != 1)}")


def _own(mark: Mark, column: Sequence[str], where: str) -> str | None:
    if not isinstance(mark.file, int):
        return mark.file and _checked(mark.file)
    if not 0 <= mark.file < len(column):
        raise Fault(f"{where} shows the image of index {mark.file}, but the row lists {len(column)}")
    return column[mark.file]


def _same(some: Sequence[str], others: Sequence[str]) -> bool:
    """Whether these are the same files, in any order."""
    return {*map(normpath, some)} == {*map(normpath, others)}


def _checked(name: str) -> str:
    """A name that may be a file in the image folder."""
    name = name.removeprefix("file://")  # as in qwen_vl_utils/vision_process.py, fetch_image
    if name.startswith("data:"):
        raise Fault(f"image {short(name)} is data, not a file", "Save the images as files.")
    if "://" in name:
        raise Fault(f"image {short(name)} is an address, not a file", "Download the images into the image folder.")
    if ".." in name and ".." in name.split("/"):
        raise Fault(f"image {short(name)} leads out of the image folder")
    return name
