"""Our names for the tensors of published checkpoints: a table of patterns, read in order.

Three generations of files: original LLaVA (`model.layers`, `model.mm_projector`), llava-hf as released
(`language_model.model`, `vision_tower.vision_model`), and llava-hf in transformers 4.52 and later
(`model.language_model`, or released names with a tower without `vision_model`).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from mlx_llava.checkpoint.config_json import UNQUANTIZED
from mlx_llava.errors import ConversionError

# Tensors of GPTQ and AWQ, bitsandbytes, compressed-tensors and FP8.
QUANTIZED = re.compile(
    r".+\.(?:qweight|qzeros|g_idx|SCB|weight\.(?:absmax|quant_map|nested_.+|quant_state\..+)|weight_format"
    r"|weight_packed|weight_shape|weight_scale(?:_inv)?|weight_zero_point|input_scale|scales|biases)"
)
ADVICE = "Name a LLaVA v1 or v1.5; other models, and parts added to one, cannot be converted."


class Rule(NamedTuple):
    """A pattern for whole names, and the new name; None drops the tensor on purpose."""

    pattern: str
    ours: str | None


TOWER = r"((?:embeddings|pre_layrnorm|encoder|post_layernorm)\..+)"
TEXT = r"((?:embed_tokens|layers|norm)\..+)"

RULES = (
    Rule(r".*\.rotary_emb\.inv_freq", None),  # computed from the config
    Rule(r".*\.position_ids", None),  # 0, 1, 2, …
    Rule(r"(?:model\.)?vision_tower\.(?:vision_tower\.)?(?:vision_model\.)?" + TOWER, r"vision_tower.\1"),
    Rule(r"(?:model\.)?multi_modal_projector\.(linear_\d)\.(weight|bias)", r"projector.\1.\2"),
    Rule(r"model\.mm_projector\.(weight|bias)", r"projector.linear_1.\1"),
    # layers of an nn.Sequential, where every second one is an activation
    *(Rule(rf"model\.mm_projector\.{2 * n}\.(weight|bias)", rf"projector.linear_{n + 1}.\1") for n in range(8)),
    Rule(r"(?:language_model\.)?(?:model\.)?(?:language_model\.)?" + TEXT, r"language_model.\1"),
    Rule(r"(?:language_model\.)?lm_head\.weight", r"language_model.lm_head.weight"),
)

# A CLIP checkpoint, for a LLaVA checkpoint without a tower.
TOWER_RULES = (
    Rule(r"(?:vision_model\.)?embeddings\.position_ids", None),
    Rule(r"(?:vision_model\.)?" + TOWER, r"vision_tower.\1"),
    Rule(r"text_model\..+|(?:text|visual)_projection\.weight|logit_scale", None),  # LLaVA uses no text tower
)


def new_name(name: str, rules: Sequence[Rule] = RULES) -> str | None:
    """Our name for a tensor, None for one dropped on purpose; ConversionError if no rule matches."""
    if QUANTIZED.fullmatch(name):
        raise ConversionError(f"{name[:80]}: a tensor of a quantized checkpoint", UNQUANTIZED)
    for rule in rules:
        if match := re.fullmatch(rule.pattern, name):
            return rule.ours and match.expand(rule.ours)
    raise ConversionError(f"{name[:80]}: not a tensor of a LLaVA with a CLIP tower", ADVICE)


def new_names(names: Iterable[str], rules: Sequence[Rule] = RULES) -> Mapping[str, str]:
    """`{ours: theirs}` for every tensor that is not dropped."""
    theirs: dict[str, str] = {}
    for name in names:
        ours = new_name(name, rules)
        if ours is None:
            continue
        if ours in theirs:
            problem = f"{name} and {theirs[ours]} are both {ours}"
            raise ConversionError(problem, "The checkpoint holds the same tensor twice; remove one.")
        theirs[ours] = name
    return theirs
