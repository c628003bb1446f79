"""Images to attach to a question: read, checked, and reduced to a preview for the screen.

Everything here may be slow and belongs on a worker thread; nothing needs the model.
"""

import hashlib
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_llava.engine.messages import ImageFile
from mlx_llava.errors import ImageError
from mlx_llava.images.files import find_file
from mlx_llava.program.paths import expand_home
from mlx_llava.tui.images import clipboard

if TYPE_CHECKING:
    from PIL import Image

PREVIEW = 512  # pixels along the longer edge
HEIC = (".heic", ".heif")


@dataclass(frozen=True)
class Attachment:
    """An image of a conversation, with its file and a preview."""

    file: ImageFile
    size: tuple[int, int]
    preview: "Image.Image" = field(repr=False)
    origin: str = ""
    """Path of the file; empty without one."""

    @property
    def name(self) -> str:
        """The name of its file."""
        return self.file.name


def from_file(path: Path) -> Attachment:
    """An image file; ImageError if it cannot be read."""
    path = find_file(expand_home(str(path)))
    if path.suffix.lower() in HEIC and sys.platform == "darwin":
        return from_bytes(_from_heic(path), path.name, str(path.absolute()))
    try:
        data = path.read_bytes() if path.is_file() else b""
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}", "Check the path and its permissions.") from error
    return from_bytes(data, path.name, str(path.absolute()))


def from_url(url: str) -> Attachment:
    """An image from the public internet."""
    from mlx_llava.images.fetch import fetch_image

    fetched = fetch_image(url)
    return from_bytes(fetched.data, fetched.name)


def from_clipboard() -> Attachment:
    """The image on the clipboard; ImageError if there is none."""
    data = clipboard.read_image()
    if not data:
        raise ImageError("there is no image on the clipboard", "Copy one, or name a file: /image PATH.")
    return from_bytes(data, "clipboard.png")


def from_bytes(data: bytes, name: str, origin: str = "") -> Attachment:
    """An image from the bytes of a file; `origin` is the path they come from."""
    from mlx_llava.images.pixels import open_image

    pil_image = open_image(data or Path(origin), "display", origin or name)
    size = pil_image.size
    pil_image.thumbnail((PREVIEW, PREVIEW))
    return Attachment(ImageFile(name, hashlib.sha256(data).hexdigest(), data), size, pil_image, origin)


def missing_image(name: str, digest: str, size: tuple[int, int], origin: str) -> Attachment:
    """A gray placeholder for an image whose file is missing."""
    from PIL import Image

    return Attachment(ImageFile(name, digest, b""), size, Image.new("RGB", (48, 24), "#808080"), origin)


def _from_heic(path: Path) -> bytes:
    """A HEIC image as PNG, converted by macOS."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image.png"
        command = ["/usr/bin/sips", "-s", "format", "png", str(path), "--out", str(file)]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode or not file.is_file():
            raise ImageError(f"{path}: the HEIC image cannot be converted", "Export it as JPEG.")
        return file.read_bytes()
