"""What a checkpoint holds, from its headers: every tensor of the model found, and nothing left over."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import mlx.core as mx

from mlx_llava.checkpoint.coverage import FLOATS, check_coverage, parameter_forms
from mlx_llava.checkpoint.reader import Reader
from mlx_llava.checkpoint.safetensors import Tensor
from mlx_llava.config import LlavaConfig
from mlx_llava.convert.sources.adapters import check_shapes
from mlx_llava.convert.sources.names import TOWER_RULES, plan
from mlx_llava.convert.sources.reading import Given
from mlx_llava.convert.weights.algebra import Adapted, Delta, Stored, Turned, Weight, pieces
from mlx_llava.errors import CheckpointError
from mlx_llava.models.llava import Llava

CONVOLUTION = "vision_tower.embeddings.patch_embedding.weight"  # [out, in, h, w] in torch, [out, h, w, in] in MLX
TO_MLX, TO_TORCH = (0, 2, 3, 1), (0, 3, 1, 2)
EMBEDDING, HEAD = "language_model.embed_tokens.weight", "language_model.lm_head.weight"
STORED = {"F16": mx.float16, "BF16": mx.bfloat16, "F32": mx.float32, "F64": mx.float32}
PROJECTOR = "projector."
COMPARED = 2**24  # bytes of the head and the embedding at a time


@dataclass(frozen=True)
class Source:
    """A checkpoint whose every tensor has its place."""

    config: LlavaConfig
    tensors: Mapping[str, Tensor]  # by our names
    dropped: int
    repeated_head: Tensor | None  # of a checkpoint that ties its head to the embedding and stores it all the same
    layers: Mapping[str, Delta] = field(default_factory=dict)  # adapters to be merged, by path
    drawn: Mapping[str, Weight] = field(default_factory=dict)  # what no file holds

    @property
    def dtype(self) -> mx.Dtype:
        """The dtype of the language model's weights."""
        return STORED[self.tensors[EMBEDDING].dtype]

    @property
    def num_bytes(self) -> int:
        """Bytes to be read."""
        return sum(tensor.num_bytes for tensor in self.tensors.values())

    @property
    def all_tensors(self) -> Iterator[Tensor]:
        """Every tensor that is read: those of the model, of adapters, and a head that repeats the embedding."""
        yield from self.tensors.values()
        parts = (part for delta in self.layers.values() for part in (delta.a, delta.b))
        yield from (part.tensor for part in parts if isinstance(part, Stored))
        if self.repeated_head is not None:
            yield self.repeated_head

    def weights(self) -> dict[str, Weight]:
        """The weights in our layout, adapters added."""
        found: dict[str, Weight] = {name: in_our_layout(name, Stored(t)) for name, t in self.tensors.items()}
        for path, delta in self.layers.items():
            found[f"{path}.weight"] = Adapted(found[f"{path}.weight"], delta)
        return {**found, **self.drawn}


def in_our_layout(name: str, weight: Weight) -> Weight:
    """A weight of a torch model as MLX has it."""
    return Turned(weight, TO_MLX) if name == CONVOLUTION else weight


def survey(given: Given, where: str) -> Source:
    """Find every tensor of the model among those of the checkpoint; reads no values.

    A tower inside the checkpoint is preferred to one of its own: it may have been tuned. Raises ConversionError for
    a tensor without a rule, CheckpointError for missing, extra or mis-shaped ones.
    """
    config, theirs = given.config, given.theirs
    found = {ours: theirs[name] for ours, name in plan(theirs).items()}
    repeated_head = found.pop(HEAD, None) if config.text.tie_word_embeddings else None
    dropped = len(theirs) - len(found)
    if not any(name.startswith("vision_tower.") for name in found):
        found |= {ours: given.tower[name] for ours, name in plan(given.tower, TOWER_RULES).items()}
    found = _with(found, given.tuning.instead)
    for tensor in found.values():
        if tensor.dtype not in STORED:
            raise CheckpointError(
                f"{where}: {tensor.name} is {tensor.dtype}, not a weight", "Save the checkpoint in float16 or float32."
            )
    wanted = {name: form for name, form in parameter_forms(Llava(config)).items() if name not in given.drawn}
    check_coverage(wanted, {n: _as_ours(n, t) for n, t in found.items()}, where)
    check_shapes(given.tuning.layers, found, where)
    return Source(config, found, dropped, repeated_head, given.tuning.layers, given.drawn)


def _with(found: Mapping[str, Tensor], instead: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors replaced; a tuned projector replaces the whole of another, whose form may have been different."""
    replaces = any(name.startswith(PROJECTOR) for name in instead)
    return {n: t for n, t in found.items() if not (replaces and n.startswith(PROJECTOR))} | dict(instead)


def _as_ours(name: str, tensor: Tensor) -> Tensor:
    """The tensor in MLX's layout, with a dtype that a converted folder may have."""
    shape = tensor.shape
    if name == CONVOLUTION and len(shape) == 4:
        shape = tuple(shape[axis] for axis in TO_MLX)
    return replace(tensor, shape=shape, dtype=tensor.dtype if tensor.dtype in FLOATS else "F32")


def check_head(reader: Reader, source: Source) -> None:
    """Raise CheckpointError unless a stored head repeats the embedding: what is dropped must not change an answer."""
    embedding, head = source.tensors[EMBEDDING], source.repeated_head
    if head is None:
        return

    def repeats(start: int, stop: int) -> bool:
        ours, theirs = (Stored(tensor).rows(reader, start, stop) for tensor in (embedding, head))
        return bool(mx.array_equal(ours, theirs).item())

    if head.shape != embedding.shape or not all(repeats(*piece) for piece in pieces(Stored(embedding), COMPARED)):
        raise CheckpointError(
            f"{head.file}: {head.name} is not the embedding, though config.json ties them",
            "Set tie_word_embeddings to false in config.json.",
        )
