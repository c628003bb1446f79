"""Models to begin with: what is on this machine, and what is worth fetching for its memory."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import mlx_llava
from mlx_llava.program.paths import data_folder

BITS = 4.5  # of a weight packed into 4 bits in groups of 64: scale and bias add half a bit
SPARE = 0.5  # share of the memory that a model may take without crowding out the rest


@dataclass(frozen=True)
class Offer:
    """A published checkpoint, described by what its config says."""

    name: str
    repository: str
    packed: float
    """Weights of the language model, in thousand millions."""
    rest: float
    """Weights of the tower and the projector."""
    layers: int
    width: int
    context: int

    @property
    def download(self) -> int:
        """Bytes to fetch: two for each weight."""
        return round((self.packed + self.rest) * 2e9)

    @property
    def size(self) -> int:
        """Bytes on the disk and in memory once it is converted."""
        return round(self.packed * 1e9 * BITS / 8 + self.rest * 2e9)

    @property
    def need(self) -> int:
        """Bytes of memory with a full context."""
        return self.size + 2 * 2 * self.layers * self.width * self.context

    @property
    def folder(self) -> Path:
        """Where it is converted to."""
        return models_folder() / f"{self.repository.split('/')[-1].removesuffix('-hf')}-4bit"


@dataclass(frozen=True)
class Chosen:
    """A model to begin with; None is the small one of the package, with its sample."""

    model: str | None


# parameters counted from the released weights; context as in LLaVA's config (max_position_embeddings 4096)
OFFERS = (
    Offer("LLaVA-1.5 7B", "llava-hf/llava-1.5-7b-hf", 6.74, 0.325, 32, 4096, 4096),
    Offer("LLaVA-1.5 13B", "llava-hf/llava-1.5-13b-hf", 13.02, 0.335, 40, 5120, 4096),
)


def models_folder() -> Path:
    """Where converted models are put."""
    return data_folder() / "models"


def memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def fitting(available: int) -> list[Offer]:
    """The offers that fit well, or the smallest of all."""
    return [offer for offer in OFFERS if offer.need <= SPARE * available] or [OFFERS[0]]


def recommended(available: int) -> Offer:
    """The offer to begin with: as large a model as makes sense before one knows whether it pays."""
    return fitting(available)[0]


def verdict(offer: Offer, available: int) -> str:
    """How an offer fits this machine."""
    have = f"this machine has {available / 1e9:.0f} GB"
    if offer.need <= SPARE * available:
        return f"fits: {have}"
    return f"tight: {have}" if offer.need <= 0.8 * available else f"too large: {have}"


def converted() -> list[Path]:
    """Converted models on this machine, those in our folder."""
    folder = models_folder()
    return sorted(path for path in folder.iterdir() if is_converted(path)) if folder.is_dir() else []


def is_converted(folder: Path) -> bool:
    """Whether a folder holds a converted model."""
    try:
        values = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and "mlx_llava" in values


def sample() -> tuple[Path, str]:
    """A picture and a question for the small model."""
    folder = Path(mlx_llava.__file__).parent / "embedded" / "tiny-llava-hf" / "examples"
    return folder / "two_shapes_wide.png", "What color is the square?"
