"""Recommended models: published checkpoints, and whether they fit this machine's memory."""

import os
from dataclasses import dataclass
from pathlib import Path

from mlx_llava.catalog.pulled import models_folder, name_for
from mlx_llava.program.text import size

BITS = 4.5  # per weight quantized to 4 bits in groups of 64: scale and bias add half a bit
COMFORTABLE = 0.5  # share of the memory that a model may take and leave room for other programs


@dataclass(frozen=True)
class Offer:
    """A published checkpoint, described by values of its config."""

    name: str
    repository: str
    quantized: float
    """Weights of the language model, in billions."""
    full: float
    """Weights of the tower and the projector, in billions; they keep 16 bits."""
    layers: int
    width: int
    context: int

    @property
    def download(self) -> int:
        """Bytes to download: two per weight."""
        return round((self.quantized + self.full) * 2e9)

    @property
    def size(self) -> int:
        """Bytes on disk and in memory after conversion."""
        return round(self.quantized * 1e9 * BITS / 8 + self.full * 2e9)

    @property
    def need(self) -> int:
        """Bytes of memory with a full context: the weights and float16 keys and values."""
        return self.size + 2 * 2 * self.layers * self.width * self.context

    @property
    def folder(self) -> Path:
        """The folder it is converted to."""
        return models_folder() / name_for(self.repository, "4bit")


# parameters counted in the released weights; context from LLaVA's config (max_position_embeddings 4096)
OFFERS = (
    Offer("LLaVA-1.5 7B", "llava-hf/llava-1.5-7b-hf", 6.74, 0.325, 32, 4096, 4096),
    Offer("LLaVA-1.5 13B", "llava-hf/llava-1.5-13b-hf", 13.02, 0.335, 40, 5120, 4096),
)


def memory() -> int:
    """Bytes of memory in this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def fitting(available: int) -> list[Offer]:
    """The offers that fit comfortably, or else the smallest."""
    return [offer for offer in OFFERS if offer.need <= COMFORTABLE * available] or [OFFERS[0]]


def recommended(available: int) -> Offer:
    """The offer to start with: the smallest, before the user knows whether a larger download is worth it."""
    return fitting(available)[0]


def verdict(offer: Offer, available: int) -> str:
    """Whether an offer fits into this machine's memory."""
    have = f"this machine has {size(available, 0)}"
    if offer.need <= COMFORTABLE * available:
        return f"fits: {have}"
    return f"tight: {have}" if offer.need <= 0.8 * available else f"too large: {have}"
