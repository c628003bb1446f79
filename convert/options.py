"""What a conversion can be asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from mlx_llava.program.options import optional

Recipe = Literal["mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6"]


@dataclass(frozen=True)
class ConvertOptions:
    """Convert a LLaVA checkpoint to a folder of MLX weights, quantized if asked."""

    hf_path: str
    """Folder of the checkpoint, or its repository on the hub."""
    mlx_path: Path
    """Folder to write. It appears whole or not at all."""
    quantize: Annotated[bool, arg(aliases=["-q"])] = False
    """Pack the weights of the language model."""
    q_bits: Annotated[int | None, optional("N")] = None
    """Bits per weight; 4 unless the mode has others. affine: 2, 3, 4, 5, 6, 8."""
    q_group_size: Annotated[int | None, optional("N")] = None
    """Weights that share a scale; 64 for affine: 32, 64, 128."""
    q_mode: Literal["affine", "mxfp4", "nvfp4", "mxfp8"] = "affine"
    """How weights are packed."""
    q_recipe: Annotated[Recipe | None, optional("{mixed_2_6,mixed_3_4,mixed_3_6,mixed_4_6}")] = None
    """Mixed bits, more for the layers that need them; instead of --q-bits."""
    q_tower: bool = False
    """Pack the vision tower and the projector too."""
    dtype: Annotated[Literal["float16", "bfloat16", "float32"] | None, optional("{float16,bfloat16,float32}")] = None
    """Number type of what is not packed; the checkpoint's own unless given."""
    template: Annotated[str | None, optional("NAME")] = None
    """Prompt template to record; vicuna_v1 unless given, mistral_instruct for original LLaVA on Mistral."""
    model_base: Annotated[str | None, optional("MODEL")] = None
    """Folder or repository of the base, where --hf-path names a LoRA folder or a mm_projector.bin; they are merged."""
    vision_tower: Annotated[str | None, optional("MODEL")] = None
    """Folder or repository of the CLIP tower, where the checkpoint does not hold it."""
    new_projector: Annotated[Literal["linear", "mlp2x_gelu"] | None, optional("{linear,mlp2x_gelu}")] = None
    """Join a text model and --vision-tower by a projector drawn afresh, for the first stage of training."""
    seed: Annotated[int | None, optional("N")] = None
    """Of the drawn projector; 0 unless given."""
    revision: Annotated[str | None, optional("REVISION")] = None
    """Branch, tag or commit on the hub."""
    overwrite: bool = False
    """Replace an existing output folder."""
    dry_run: bool = False
    """Check everything that headers tell, print the plan, write nothing."""
