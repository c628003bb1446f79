"""PEFT's adapters as changes of weights: its config, and its tensors in pairs.

Each kind equals `merge_and_unload` of PEFT 0.21 (tests/parity/test_peft_in.py). A kind that is not implemented, and may
change a merged weight, is an error that names it.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlx_llava.checkpoint.safetensors import Tensor
from mlx_llava.checkpoint.strict_json import Section, read_json, short
from mlx_llava.convert.sources.names import new_name
from mlx_llava.convert.weights.algebra import FileTensor
from mlx_llava.convert.weights.changes import Change, LoraDelta, NewRows
from mlx_llava.errors import CheckpointError, ConfigError, ConversionError

CONFIG, ADAPTERS = "adapter_config.json", "adapter_model"
# Keys of peft's LoraConfig that do not change a merged weight, or that follow from its tensors.
HARMLESS = frozenset(
    """
    task_type auto_mapping peft_version base_model_name_or_path revision inference_mode target_modules exclude_modules
    lora_dropout modules_to_save layers_to_transform layers_pattern megatron_core qalora_group_size parent_library
    eva_config runtime_config
    """.split()
)
AS_SAVED = "Use the folder as it was saved."
ELSEWHERE = "Merge it with PEFT's merge_and_unload, save the model, and convert that."
PART = re.compile(
    r"(.+)\.(?:lora_(?:embedding_)?(?P<pair>[AB])(?:\.default)?(?:\.weight)?"
    r"|(?P<magnitude>lora_magnitude_vector)(?:\.default)?(?:\.weight)?"
    r"|token_adapter\.(?P<tokens>trainable_tokens_delta)(?:\.default)?)"
)
# Patterns come from a file: without repeated groups, and with few repetitions, matching takes polynomial time.
PATTERN = re.compile(r"(?!.*\)[*+?{])(?:[^*+?{]*[*+?{]){0,3}[^*+?{]{0,200}", re.DOTALL)


@dataclass(frozen=True)
class Settings:
    """What a merge needs of adapter_config.json; PEFT's own names of layers are matched against the patterns."""

    rank: int
    alpha: float
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    rank_stabilized: bool
    dora: bool
    tokens: Mapping[str, tuple[int, ...]]
    base: str
    """A folder on another machine, or a repository."""

    def scale(self, layer: str, rank: int) -> float:
        """The factor on the product of an adapter's matrices; CheckpointError if the layer has another rank."""
        if rank != (declared := self._matched(self.ranks, layer, self.rank)):
            raise CheckpointError(f"{layer}: adapters of rank {rank}, and {CONFIG} says {declared}", AS_SAVED)
        return self._matched(self.alphas, layer, self.alpha) / (rank**0.5 if self.rank_stabilized else rank)

    @staticmethod
    def _matched(patterns: Mapping[str, Any], layer: str, default: Any) -> Any:
        """The value of the first pattern that matches, as peft.utils.other.get_pattern_key has it."""
        return next((v for pattern, v in patterns.items() if re.match(rf"(.*\.)?({pattern})$", layer)), default)

    def indices(self, layer: str) -> tuple[int, ...]:
        """The trained tokens of an embedding; CheckpointError if the config names none."""
        for name, indices in self.tokens.items():
            if layer == name or layer.endswith(f".{name}"):
                return indices
        raise CheckpointError(f"{layer}: trained tokens, and {CONFIG} names none", AS_SAVED)


def read_settings(folder: Path) -> Settings:
    """The settings; ConfigError for those that a merge cannot follow."""
    values = read_json(folder / CONFIG)
    # what PEFT does not use it writes as false, null or empty; 0 is a value
    keys = Section({k: v for k, v in values.items() if v is not False and v not in ("", [], {})}, CONFIG)
    settings = Settings(
        rank=keys.integer("r", None, 1, 2**16),
        alpha=keys.number("lora_alpha", None, 0.0, 1e6),
        ranks=_patterns(keys, "rank_pattern", int),
        alphas=_patterns(keys, "alpha_pattern", (int, float)),
        rank_stabilized=keys.flag("use_rslora", False),
        dora=keys.flag("use_dora", False),
        tokens=_tokens(keys),
        base=base if isinstance(base := values.get("base_model_name_or_path"), str) else "",
    )
    try:
        keys.only("peft_type", "LORA")
        keys.only("bias", "none", "lora_only", "all")
        keys.only("init_lora_weights", True, "gaussian", "eva", "orthogonal")  # others change the base too
        keys.finish(HARMLESS)
    except ConfigError as error:
        raise ConfigError(error.problem, ELSEWHERE) from None
    return settings


def _patterns(keys: Section, key: str, kinds: type | tuple[type, ...]) -> dict[str, Any]:
    """`pattern of a layer's name -> value`; ConfigError for anything else."""
    patterns = keys.section(key).values
    for pattern, value in patterns.items():
        if not PATTERN.fullmatch(pattern) or not isinstance(value, kinds) or isinstance(value, bool) or value < 0:
            raise ConfigError(f"{CONFIG}: {key} holds {short({pattern: value})}", ELSEWHERE)
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConfigError(f"{CONFIG}: {key}: {short(pattern)} is no pattern: {error}", AS_SAVED) from None
    return patterns


def _tokens(keys: Section) -> dict[str, tuple[int, ...]]:
    """`name of an embedding -> rows`; a list alone is that of the input embedding."""
    values = keys.get("trainable_token_indices", {})
    tables = {"embed_tokens": values} if isinstance(values, list) else values
    for rows in tables.values() if isinstance(tables, dict) else [None]:
        if not isinstance(rows, list) or len({*rows}) < len(rows) or any(type(n) is not int or n < 0 for n in rows):
            raise ConfigError(f"{CONFIG}: trainable_token_indices is {short(values)}", AS_SAVED)
    return {name: tuple(rows) for name, rows in tables.items()}


def is_part(name: str) -> bool:
    """Whether a tensor is part of an adapter, and not one that replaces a tensor of the base."""
    return ".lora_" in name or ".token_adapter." in name


def changes(tensors: Mapping[str, Tensor], settings: Settings) -> dict[str, Change]:
    """The change of each weight, by our path of its layer; ConversionError for a kind that is not implemented."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = PART.fullmatch(name)
        if not match:
            raise ConversionError(f"{name[:120]}: this kind of adapter is not implemented", ELSEWHERE)
        kind = match["pair"] or match["magnitude"] or match["tokens"]
        parts.setdefault(match[1].removeprefix("base_model.model."), {})[kind] = tensor
    found: dict[str, Change] = {}
    for layer, pair in parts.items():
        ours = new_name(unwrapped(f"{layer}.weight"))
        path = ours.removesuffix(".weight") if ours else ""
        if not ours or path in found:
            raise ConversionError(f"{layer[:120]}: an adapter of no layer, or a second one", AS_SAVED)
        found[path] = _change(layer, pair, settings)
    return found


def _change(layer: str, parts: Mapping[str, Tensor], settings: Settings) -> Change:
    if parts.keys() == {"trainable_tokens_delta"}:
        rows, indices = FileTensor(parts["trainable_tokens_delta"]), settings.indices(layer)
        if len(rows.shape) != 2 or rows.shape[0] != len(indices):
            raise CheckpointError(f"{layer}: {list(rows.shape)} for {len(indices)} trained tokens", AS_SAVED)
        return NewRows(rows, indices)
    if parts.keys() - {"lora_magnitude_vector"} != {"A", "B"}:
        raise CheckpointError(f"{layer}: no pair of adapters, but {', '.join(sorted(parts))}", AS_SAVED)
    a, b, magnitude = (FileTensor(parts[k]) if k in parts else None for k in ("A", "B", "lora_magnitude_vector"))
    assert a is not None
    assert b is not None
    return _lora(layer, a, b, magnitude, settings)


def _lora(layer: str, a: FileTensor, b: FileTensor, magnitude: FileTensor | None, settings: Settings) -> LoraDelta:
    """The pair of A `[rank, in, ...]` and B `[out, rank, ...]`; of a table, A `[rank, rows]` and B `[width, rank]`."""
    if len(a.shape) < 2 or b.shape[1:] != (a.shape[0], *(1 for _ in a.shape[2:])):
        raise CheckpointError(f"{layer}: no pair of adapters, but {list(a.shape)} and {list(b.shape)}", AS_SAVED)
    scale = settings.scale(layer, a.shape[0])
    is_table = "lora_embedding_" in a.tensor.name
    if is_table and settings.dora:
        raise ConversionError(f"{layer}: DoRA on an embedding is not implemented", ELSEWHERE)
    if settings.dora != (magnitude is not None):
        raise CheckpointError(f"{layer}: use_dora and the magnitude vector go together, one is missing", AS_SAVED)
    if is_table:  # the transpose of a linear layer's weight
        return LoraDelta(b, a, scale)
    delta = LoraDelta(a, b, scale, transposed=True)
    if magnitude is None:
        return delta
    if math.prod(magnitude.shape) != b.shape[0]:
        raise CheckpointError(f"{layer}: a magnitude of shape {list(magnitude.shape)}", AS_SAVED)
    return replace(delta, magnitude=magnitude)


def unwrapped(name: str) -> str:
    """The name without PEFT's wrappers; LLaVA's own loader strips the same (llava/model/builder.py)."""
    name = re.sub(r"\.(?:modules_to_save(?:\.default)?|base_layer)", "", name).removeprefix("base_model.model.")
    return name.removeprefix("model.") if name.startswith("model.model.") else name
