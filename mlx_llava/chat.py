"""`mlx-llava chat`: the terminal chat; and `Chat` and `Picture`, the names that version 0.1 had here."""

from pathlib import Path

import mlx_llava
from mlx_llava.tui.cli import main


class Picture:
    """The former name of `mlx_llava.Image`."""

    @staticmethod
    def open(source: Path | bytes, name: str, config: object, look: str) -> "mlx_llava.Image":
        """The image; a chat crops it by the config of its own model."""
        return mlx_llava.Image.open(source, name, "training" if look == "exact" else "display")


def __getattr__(name: str) -> object:
    if name == "Chat":
        return mlx_llava.Chat
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if __name__ == "__main__":
    main()
