"""The KV cache of a conversation, reused up to the first position that differs."""

from collections.abc import Hashable, Sequence
from typing import Any

from mlx_llava.errors import UsageError
from mlx_llava.inference.sampling import CacheOptions
from mlx_llava.inputs import Example
from mlx_llava.models.llama import Llama
from mlx_llava.models.mlx_lm_parts import can_trim_prompt_cache, make_prompt_cache, trim_prompt_cache


class PrefixCache:
    """A KV cache and a key for each cached position.

    Positions with equal keys have equal inputs, so a prompt is computed only from its first differing key.
    """

    def __init__(self, model: Llama, options: CacheOptions) -> None:
        if options.max_size is not None and options.bits is not None:
            raise UsageError("--max-kv-size and --kv-bits exclude each other", "Leave one out.")
        if options.bits is not None and not group_size(model):
            raise UsageError("--kv-bits: the heads of this model do not divide into groups of 32", "Leave it out.")
        self.model = model
        self.options = options
        self.keys: list[Hashable] = []
        self.layers: list[Any] = []

    def reuse_prefix(self, keys: Sequence[Hashable]) -> int:
        """Trim the cache to its common prefix with `keys`; the prefix length, at most `len(keys) - 1`."""
        common = next((i for i, (a, b) in enumerate(zip(self.keys, keys, strict=False)) if a != b), None)
        common = min(len(self.keys), len(keys)) if common is None else common
        common = min(common, len(keys) - 1)  # the last position always runs: its logits are needed
        surplus = len(self.keys) - common
        if self.layers and (not surplus or can_trim_prompt_cache(self.layers)):
            trim_prompt_cache(self.layers, surplus)
        else:
            common = 0
            self.layers = make_prompt_cache(self.model, max_kv_size=self.options.max_size)
        self.keys = list(keys[:common])
        return common

    def align_layers(self) -> None:
        """Trim layers that are ahead, so that all hold the same positions; a bounded cache cannot be trimmed."""
        length = min(layer.offset for layer in self.layers)
        if can_trim_prompt_cache(self.layers):
            for layer in self.layers:
                layer.trim(layer.offset - length)

    def record(self, keys: Sequence[Hashable]) -> None:
        """Record the positions now cached (the last key may be missing).

        After an error the layers may differ in length or hold an unreported token; then the cache is dropped.
        """
        lengths = {layer.offset for layer in self.layers}
        if len(lengths) != 1 or max(lengths) > len(keys):
            self.keys, self.layers = [], []
        else:
            self.keys = list(keys[: max(lengths)])


def group_size(model: Llama) -> int:
    """Group size for quantized keys and values, or 0 if the head dimension does not divide into groups."""
    dim = model.layers[0].self_attn.head_dim
    return next((size for size in (64, 32) if dim % size == 0), 0)


def quantize(model: Llama, layers: list[Any], bits: int | None) -> None:
    """Quantize keys and values in place, in the layers where they are not yet; without `bits`, do nothing."""
    for n, layer in enumerate(layers if bits else ()):
        if hasattr(layer, "to_quantized"):
            layers[n] = layer.to_quantized(group_size(model), bits)


def cache_keys(example: Example) -> list[Hashable]:
    """A key for each position: its token, or its image and its place in it."""
    keys: list[Hashable] = example.tokens.tolist()
    for image in example.images:
        keys[image.start : image.positions.stop] = [(image.key, n) for n in range(image.num_rows)]
    return keys
