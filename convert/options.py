"""Options of the converter, and the quantization flags it shares with `mlx-llava fuse`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from mlx_llava.config import Dtype
from mlx_llava.program.limits import SEED
from mlx_llava.program.options import optional

Recipe = Literal["mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6"]


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """How to quantize; the flags are those of mlx_lm.convert."""

    quantize: Annotated[bool, arg(aliases=["-q"])] = False
    """Quantize the language model, as the --q flags say."""
    q_bits: Annotated[int | None, optional("N")] = None
    """Bits per weight; otherwise 4, or what the mode has. affine: 2, 3, 4, 5, 6, 8."""
    q_group_size: Annotated[int | None, optional("N")] = None
    """Weights that share a scale; otherwise 64, or what the mode has. affine: 32, 64, 128."""
    q_mode: Literal["affine", "mxfp4", "nvfp4", "mxfp8"] = "affine"
    """Quantization mode."""
    q_recipe: Annotated[Recipe | None, optional("{mixed_2_6,mixed_3_4,mixed_3_6,mixed_4_6}", "--quant-predicate")] = (
        None
    )
    """Mixed bits, more for the layers that need them; instead of --q-bits."""
    q_tower: bool = False
    """Quantize the vision tower and the projector too."""


@dataclass(frozen=True, kw_only=True)
class ConvertOptions(QuantizeOptions):
    """Convert a LLaVA checkpoint to a folder of MLX weights, optionally quantized."""

    hf_path: Annotated[str, arg(aliases=["--model"])]
    """Checkpoint: a folder, or a repository on the hub."""
    mlx_path: Path
    """Folder to write. It appears whole or not at all."""
    dtype: Annotated[Dtype | None, optional("{float16,bfloat16,float32}")] = None
    """Data type of weights that are not quantized; otherwise the checkpoint's own."""
    template: Annotated[str | None, optional("NAME")] = None
    """Prompt template to record; otherwise vicuna_v1, or mistral_instruct for original LLaVA on Mistral."""
    model_base: Annotated[str | None, optional("MODEL")] = None
    """Base model, a folder or repository, if --hf-path holds a LoRA or a mm_projector.bin; they are merged."""
    vision_tower: Annotated[str | None, optional("MODEL")] = None
    """CLIP tower, a folder or repository, if the checkpoint does not include it."""
    new_projector: Annotated[Literal["linear", "mlp2x_gelu"] | None, optional("{linear,mlp2x_gelu}")] = None
    """Join a text model and --vision-tower with a new random projector, to start training stage 1 from."""
    seed: Annotated[int | None, SEED, optional("N")] = None
    """Random seed of the new projector; otherwise 0."""
    revision: Annotated[str | None, optional("REVISION")] = None
    """Branch, tag or commit on the hub."""
    overwrite: bool = False
    """Replace an existing output folder."""
    dry_run: bool = False
    """Check configs and headers, print the plan and write nothing."""
