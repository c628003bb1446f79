"""Picture files on their way into a conversation: read, checked, and made small for the screen.

Everything here may take a while and belongs on a thread; nothing of it needs the model.
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
from mlx_llava.program.paths import expanded
from mlx_llava.tui.images import clipboard

if TYPE_CHECKING:
    from PIL import Image

PREVIEW = 512  # pixels along the longer edge that the screen keeps
HEIC = (".heic", ".heif")


@dataclass(frozen=True)
class Attachment:
    """A picture of a conversation."""

    file: ImageFile
    size: tuple[int, int]
    preview: "Image.Image" = field(repr=False)
    origin: str = ""
    """Path of the file; empty where there is none."""

    @property
    def name(self) -> str:
        """What it is called."""
        return self.file.name


def read(path: Path) -> Attachment:
    """A picture file; ImageError where it is none that we can read."""
    path = expanded(str(path))
    if path.suffix.lower() in HEIC and sys.platform == "darwin":
        return attachment(_from_heic(path), path.name, str(path.absolute()))
    try:
        data = path.read_bytes() if path.is_file() else b""
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}", "Check the path and its permissions.") from error
    return attachment(data, path.name, str(path.absolute()))


def fetch(url: str) -> Attachment:
    """A picture from the public internet."""
    from mlx_llava.images.fetch import fetch_image

    fetched = fetch_image(url)
    return attachment(fetched.data, fetched.name)


def pasted() -> Attachment:
    """The picture on the clipboard; ImageError where there is none."""
    data = clipboard.read_image()
    if not data:
        raise ImageError("there is no image on the clipboard", "Copy one, or name its file: /image PATH.")
    return attachment(data, "clipboard.png")


def attachment(data: bytes, name: str, origin: str = "") -> Attachment:
    """A picture from the bytes of a file, which lay at `origin`."""
    from mlx_llava.images.pixels import open_image

    pil_image = open_image(data or Path(origin), "display", origin or name)
    size = pil_image.size
    pil_image.thumbnail((PREVIEW, PREVIEW))
    return Attachment(ImageFile(name, hashlib.sha256(data).hexdigest(), data), size, pil_image, origin)


def gone(name: str, digest: str, size: tuple[int, int], origin: str) -> Attachment:
    """What stands for a picture whose file is no longer there."""
    from PIL import Image

    return Attachment(ImageFile(name, digest, b""), size, Image.new("RGB", (48, 24), "#808080"), origin)


def _from_heic(path: Path) -> bytes:
    """A HEIC picture as PNG, by the converter that is part of macOS."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "picture.png"
        command = ["/usr/bin/sips", "-s", "format", "png", str(path), "--out", str(file)]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode or not file.is_file():
            raise ImageError(f"{path}: the HEIC picture cannot be converted", "Export it as JPEG.")
        return file.read_bytes()
