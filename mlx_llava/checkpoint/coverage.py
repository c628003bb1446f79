"""Every parameter of a model has its tensor, and no tensor is left over."""

from collections.abc import Mapping

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mlx_llava.checkpoint.safetensors import Tensor
from mlx_llava.errors import CheckpointError

FLOATS = ("F16", "BF16", "F32")
QUANTIZED = {mx.uint32: ("U32",), mx.uint8: ("U8",)}  # weights, and the scales of the fp modes

Form = tuple[tuple[int, ...], tuple[str, ...]]  # shape, and the dtypes a file may have


def parameter_forms(model: nn.Module) -> dict[str, Form]:
    """Shape of every parameter and the dtypes it may have in a file; evaluates none of them."""
    flat: list[tuple[str, mx.array]] = tree_flatten(model.parameters())  # pyright: ignore
    return {name: (x.shape, QUANTIZED.get(x.dtype, FLOATS)) for name, x in flat}


def check_coverage(forms: Mapping[str, Form], tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise CheckpointError unless there is exactly one tensor of the right form for each entry of `forms`."""
    missing = [name for name in forms if name not in tensors]
    extra = [name for name in tensors if name not in forms]
    wrong = [
        f"{name} is {tensor.dtype} {list(tensor.shape)}, not {'/'.join(forms[name][1])} {list(forms[name][0])}"
        for name, tensor in tensors.items()
        if name in forms and (tensor.shape != forms[name][0] or tensor.dtype not in forms[name][1])
    ]
    for what, names in (("missing", missing), ("not part of the model", extra), ("of another form", wrong)):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            raise CheckpointError(
                f"{where}: tensors {what}: {', '.join(name[:160] for name in names[:5])}{more}",
                "The weights do not belong to this config.json; convert or download the checkpoint again.",
            )
