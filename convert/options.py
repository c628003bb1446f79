"""Options of the converter, and the flags it shares with `mlx-llava fuse` and `mlx-llava models pull`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from mlx_llava.config import Dtype
from mlx_llava.program.flags import Examples, flag
from mlx_llava.program.limits import SEED

Recipe = Literal["mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6"]


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """Quantization."""  # the flags are those of mlx_lm.convert

    quantize: Annotated[bool, flag("", "-q")] = False
    """Quantize the language model, as the --q flags say."""
    q_bits: int | None = None
    """Bits per weight; otherwise 4, or what the mode has. affine: 2, 3, 4, 5, 6, 8."""
    q_group_size: int | None = None
    """Weights that share a scale; otherwise 64, or what the mode has. affine: 32, 64, 128."""
    q_mode: Literal["affine", "mxfp4", "nvfp4", "mxfp8"] = "affine"
    """Quantization mode."""
    q_recipe: Annotated[Recipe | None, flag("", "--quant-predicate")] = None
    """Mixed bits, more for the layers that need them; instead of --q-bits."""
    q_tower: bool = False
    """Quantize the vision tower and the projector too."""


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """Checkpoint."""

    dtype: Dtype | None = None
    """Data type of weights that are not quantized; otherwise the checkpoint's own."""
    template: Annotated[str | None, flag("NAME")] = None
    """Prompt template to record; otherwise vicuna_v1, or mistral_instruct for original LLaVA on Mistral."""
    model_base: Annotated[str | None, flag("MODEL")] = None
    """Base model, a folder or repository, if the checkpoint is a LoRA or a mm_projector.bin; they are merged."""
    vision_tower: Annotated[str | None, flag("MODEL")] = None
    """CLIP tower, a folder or repository, if the checkpoint does not include it."""
    revision: Annotated[str | None, flag("REVISION")] = None
    """Branch, tag or commit on the hub."""


@dataclass(frozen=True, kw_only=True)
class ConvertOptions(QuantizeOptions, SourceOptions):
    """Convert a LLaVA checkpoint to a folder of MLX weights, optionally quantized."""

    examples: Examples = ("mlx-llava convert --hf-path llava-hf/llava-1.5-7b-hf --mlx-path llava-4bit -q",)

    hf_path: Annotated[str, flag("MODEL", "--model")]
    """Checkpoint: a folder, or a repository on the hub."""
    mlx_path: Annotated[Path, flag("FOLDER")]
    """Folder to write. It appears whole or not at all."""
    new_projector: Literal["linear", "mlp2x_gelu"] | None = None
    """Join a text model and --vision-tower with a new random projector, to start training stage 1 from."""
    seed: Annotated[int | None, SEED] = None
    """Random seed of the new projector; otherwise 0."""
    overwrite: bool = False
    """Replace an existing output folder."""
    dry_run: bool = False
    """Check configs and headers, print the plan and write nothing."""
