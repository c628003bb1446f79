"""Which tensor each weight of the model comes from, by headers alone; no tensor may be missing or left over."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import mlx.core as mx

from mlx_llava.checkpoint.coverage import FLOATS, Form, check_coverage, parameter_forms
from mlx_llava.checkpoint.reader import Reader
from mlx_llava.checkpoint.safetensors import Tensor
from mlx_llava.convert.sources.adapters import Adapters, check_shapes
from mlx_llava.convert.sources.gather import Inputs
from mlx_llava.convert.sources.names import TOWER_RULES, new_names
from mlx_llava.convert.sources.peft import ELSEWHERE
from mlx_llava.convert.weights.algebra import FileTensor, Transposed, Weight, pieces
from mlx_llava.convert.weights.changes import LoraDelta
from mlx_llava.errors import CheckpointError, ConversionError
from mlx_llava.models.llava import Llava

CONVOLUTION = "vision_tower.embeddings.patch_embedding.weight"  # [out, in, h, w] in torch, [out, h, w, in] in MLX
TO_MLX, TO_TORCH = (0, 2, 3, 1), (0, 3, 1, 2)
EMBEDDING, HEAD = "language_model.embed_tokens.weight", "language_model.lm_head.weight"
FLOAT_DTYPES = {"F16": mx.float16, "BF16": mx.bfloat16, "F32": mx.float32, "F64": mx.float32}
PROJECTOR = "projector."
COMPARED = 2**24  # bytes of the head and the embedding to compare at a time


@dataclass(frozen=True)
class Inventory:
    """The tensors of a checkpoint, by our names; complete."""

    inputs: Inputs
    tensors: Mapping[str, Tensor]
    dropped: int
    repeated_head: Tensor | None  # stored although the checkpoint ties its head to the embedding

    @property
    def dtype(self) -> mx.Dtype:
        """The dtype of the language model's weights."""
        return FLOAT_DTYPES[self.tensors[EMBEDDING].dtype]

    @property
    def all_tensors(self) -> Iterator[Tensor]:
        """Every tensor that is read: the model's, the adapters', and a head that repeats the embedding."""
        yield from self.tensors.values()
        parts = (part for change in self.inputs.adapters.layers.values() for part in change.parts)
        yield from (part.tensor for part in parts if isinstance(part, FileTensor))
        if self.repeated_head is not None:
            yield self.repeated_head

    def weights(self) -> dict[str, Weight]:
        """The weights in MLX's layout, adapters added."""
        weights: dict[str, Weight] = {name: FileTensor(tensor) for name, tensor in self.tensors.items()}
        for path, change in self.inputs.adapters.layers.items():
            weights[f"{path}.weight"] = change.applied(weights[f"{path}.weight"])
        weights[CONVOLUTION] = Transposed(weights[CONVOLUTION], TO_MLX)
        return {**weights, **self.inputs.projector}


def take_inventory(inputs: Inputs) -> Inventory:
    """Find the tensor of every weight; reads no values.

    A tower inside the checkpoint is preferred to a separate one, because it may have been trained. Raises
    ConversionError for a tensor without a rule, CheckpointError for missing, extra or mis-shaped ones.
    """
    config, theirs, where = inputs.config, inputs.tensors, str(inputs.folder)
    tensors = {ours: theirs[name] for ours, name in new_names(theirs).items()}
    repeated_head = tensors.pop(HEAD, None) if config.text.tie_word_embeddings else None
    dropped = len(theirs) - len(tensors)
    if not any(name.startswith("vision_tower.") for name in tensors):
        tensors |= {ours: inputs.tower[name] for ours, name in new_names(inputs.tower, TOWER_RULES).items()}
    if inputs.adapters.whole_projector:  # it may have another depth
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(PROJECTOR)}
    forms = {name: form for name, form in parameter_forms(Llava(config)).items() if name not in inputs.projector}
    if config.text.tie_word_embeddings:
        _check_not_tied(inputs.adapters)
    _check_replaced(inputs.adapters.replaced, forms)
    tensors |= inputs.adapters.replaced
    for tensor in tensors.values():
        if tensor.dtype not in FLOAT_DTYPES:
            raise CheckpointError(
                f"{where}: {tensor.name} is {tensor.dtype}, not a weight", "Save the checkpoint in float16 or float32."
            )
    check_coverage(forms, {n: _converted(n, t) for n, t in tensors.items()}, where)
    check_shapes(inputs.adapters.layers, tensors, where)
    return Inventory(inputs, tensors, dropped, repeated_head)


def _check_replaced(replaced: Mapping[str, Tensor], forms: Mapping[str, Form]) -> None:
    """Raise ConversionError, naming the adapters' own file, unless the model has every tensor that they replace."""
    for name, tensor in replaced.items():
        shape = _converted(name, tensor).shape
        if name not in forms or shape != forms[name][0]:
            actual = f"is {list(forms[name][0])}" if name in forms else "does not exist"
            problem = f"{tensor.file}: {tensor.name[:160]} is {list(shape)}, the base's {actual}"
            raise ConversionError(problem, "Name the base it was trained on with --model-base.")


def _check_not_tied(adapters: Adapters) -> None:
    """Raise ConversionError for adapters of one of two tied weights: with them, these are no longer one."""
    changed = {f"{path}.weight" for path, change in adapters.layers.items() if isinstance(change, LoraDelta)}
    for name in (EMBEDDING, HEAD):
        if name in changed or name in adapters.replaced:
            raise ConversionError(f"{name}: adapters of a weight that the base ties to another", ELSEWHERE)


def _converted(name: str, tensor: Tensor) -> Tensor:
    """The tensor in MLX's layout, with a dtype that a converted folder may have."""
    shape = tensor.shape
    if name == CONVOLUTION and len(shape) == 4:
        shape = tuple(shape[axis] for axis in TO_MLX)
    return replace(tensor, shape=shape, dtype=tensor.dtype if tensor.dtype in FLOATS else "F32")


def check_head(reader: Reader, inventory: Inventory) -> None:
    """Raise CheckpointError unless a stored tied head repeats the embedding: dropping it must not change an answer."""
    embedding, head = inventory.tensors[EMBEDDING], inventory.repeated_head
    if head is None:
        return
    ours, theirs = FileTensor(embedding), FileTensor(head)
    if ours.shape != theirs.shape or not all(
        mx.array_equal(ours.rows(reader, *piece), theirs.rows(reader, *piece)) for piece in pieces(ours, COMPARED)
    ):
        problem = f"{head.file}: {head.name} is not the embedding, though config.json ties them"
        raise CheckpointError(problem, "Set tie_word_embeddings to false in config.json.")
