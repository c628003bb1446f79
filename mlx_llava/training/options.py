"""Options of the training programs: for each, its default, help, range, and whether a resumed run may change it.

MLX-free: the CUDA path reads the same options.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from mlx_llava.config import Dtype, Fit, LlavaConfig
from mlx_llava.program.flags import Examples, flag
from mlx_llava.program.limits import Limits, marks


@dataclass(frozen=True)
class MayChange:
    """Marks an option that a resumed run may change.

    Either it does not affect the weights, or it names a file or folder whose contents the run compares itself.
    """


OptionalCount = Annotated[int | None, Limits(1, 4096)]
Rate = Annotated[float, Limits(0, 10)]
OptionalFolder = Annotated[Path | None, MayChange(), flag("FOLDER")]


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Data."""

    data: Annotated[Path, MayChange(), flag("FILE")]
    """LLaVA JSON or JSONL, `messages` rows, or a folder with train.jsonl (and valid.jsonl for a validation loss)."""
    images: OptionalFolder = None
    """Folder of the images; not needed for text-only data."""
    max_tokens: Annotated[int, Limits(1, 2**20), flag("N", "--max-seq-length")] = 2048
    """Reject conversations with more tokens than this, image tokens included."""
    leave_out: bool = False
    """Skip faulty and overlong records, and report how many, instead of stopping."""
    as_written: bool = False
    """Keep images where the questions have them; LLaVA moves them to the front."""
    workers: Annotated[int, MayChange(), Limits(0, 64)] = 2
    """Worker processes that check images and prepare batches."""


@dataclass(frozen=True, kw_only=True)
class BaseOptions:
    """Base model."""

    model: Annotated[str | None, MayChange(), flag("MODEL", "-m")] = None
    """Converted folder; otherwise the small bundled model."""
    template: Annotated[str | None, flag("NAME")] = None
    """Prompt template; otherwise the one recorded at conversion."""
    fit: Fit | None = None
    """Center-crop images or pad them to a square; otherwise as recorded at conversion."""


@dataclass(frozen=True, kw_only=True)
class ExampleOptions(DataOptions, BaseOptions):
    """Everything that decides how records become examples; `mlx-llava look` has these options too."""


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """Optimization."""

    epochs: Annotated[int | None, Limits(1, 10_000), flag("N")] = None
    """Passes over the data (default: 1, or as many as make 50 steps)."""
    steps: Annotated[int | None, Limits(1, 2**31), flag("N", "--iters")] = None
    """Optimizer steps of the run, in as many epochs as they take; with --epochs, whichever ends first."""
    batch_size: OptionalCount = None
    """Conversations per batch (default: 16, or down to 4 where that would make fewer than 50 steps)."""
    accumulation: Annotated[OptionalCount, flag("N", "--grad-accumulation-steps")] = None
    """Batches per optimizer step (default: 8, or fewer where that would make fewer than 50 steps)."""
    learning_rate: Rate = 2e-5
    """Peak learning rate."""
    warmup_ratio: Annotated[float, Limits(0, 1)] = 0.03
    """Fraction of the steps used for learning-rate warm-up."""
    weight_decay: Rate = 0.0
    """Weight decay; norms and biases have none."""
    max_grad_norm: Annotated[float | None, Limits(1e-9, 1e9), flag("NORM")] = None
    """Clip gradients to this norm; LLaVA's own runs do not clip."""
    group_by_length: bool = True
    """Shuffle without grouping by length and modality (similar lengths; images and text-only apart where possible)."""
    per_batch_mean: bool = False
    """Average the loss within each batch first, as LLaVA does, instead of weighting all answer tokens equally."""
    seed: Annotated[int, Limits(0, 2**31 - 1)] = 42
    """Random seed (data order, dropout, initialization)."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Run."""

    recipe: Annotated[str | None, MayChange(), flag("RECIPE", "-c", "--config")] = None
    """TOML file with defaults for these flags, or the name of a bundled one, such as v1_5_7b_lora."""
    projector: OptionalFolder = None
    """Start from a projector trained for this model by `mlx-llava pretrain`."""
    save_every: Annotated[int, MayChange(), Limits(1, 2**31)] = 200
    """Steps between snapshots."""
    steps_per_eval: Annotated[int | None, MayChange(), Limits(1, 2**31), flag("N")] = None
    """Steps between validation losses (default: one at every snapshot)."""
    val_batches: Annotated[int | None, MayChange(), Limits(1, 2**31), flag("N")] = None
    """Batches in a validation loss (default: all)."""
    steps_per_report: Annotated[int, MayChange(), Limits(1, 2**31), flag("N")] = 1
    """Steps between lines of progress; metrics.jsonl has every step."""
    recompute: Annotated[bool | None, MayChange(), flag("", "--grad-checkpoint")] = None
    """Recompute activations in the backward pass, or do not: far less memory, a third more time (default: on a GPU)."""
    cache_features: OptionalFolder = None
    """Cache the vision tower's features in this folder; later epochs and runs skip the tower."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(ExampleOptions, StepOptions, RunOptions):
    """Options that all training programs share."""


@dataclass(frozen=True, kw_only=True)
class PretrainOptions(TrainingOptions):
    """Train the projector on images and captions; the vision tower and the language model stay frozen.

    Defaults follow LLaVA-1.5's scripts/v1_5/pretrain.sh, for one machine: where the script runs a batch of 32 on
    each of 8 devices, this accumulates 8 batches.
    """

    examples: Examples = ("mlx-llava pretrain --data captions.json --images photos --adapter-path projector",)

    adapter_path: Annotated[Path, MayChange(), flag("FOLDER")]
    """Folder for the projector and snapshots; run the same command again to resume from it."""
    new_projector: bool = False
    """Initialize a new projector instead of starting from the model's."""
    template: Annotated[str, flag("NAME")] = "plain"
    """Prompt template; otherwise plain, an image followed by its caption."""
    fit: Fit = "crop"
    """Center-crop images or pad them to a square. LLaVA's first stage always crops."""
    batch_size: OptionalCount = None
    """Captions per batch (default: 32, or down to 4 where that would make fewer than 50 steps)."""
    group_by_length: bool = False
    """Batch captions of similar length."""
    learning_rate: Rate = 1e-3
    """Peak learning rate."""


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(TrainingOptions):
    """Train the language model and the projector on conversations; the vision tower stays frozen.

    Defaults follow LLaVA-1.5's scripts/v1_5/finetune.sh, for one machine: where the script runs a batch of 16 on
    each of 8 devices, this accumulates 8 batches.
    """

    examples: Examples = ("mlx-llava finetune --data train.json --images photos --mlx-path tuned",)

    mlx_path: Annotated[Path, MayChange(), flag("FOLDER")]
    """Folder for the complete trained model, written at the end of the run."""
    run_path: OptionalFolder = None
    """Folder for snapshots and metrics, from which a stopped run resumes; otherwise MLX_PATH.run."""
    overwrite: Annotated[bool, MayChange()] = False
    """Replace an existing model folder at --mlx-path."""
    dtype: Annotated[Dtype | None, MayChange()] = None
    """Data type of the written weights; otherwise the base model's."""
    mm_projector_lr: Annotated[float | None, Limits(0, 10), flag("RATE")] = None
    """Peak learning rate of the projector; otherwise --learning-rate."""


@dataclass(frozen=True, kw_only=True)
class LoraOptions(TrainingOptions):
    """Train LoRA adapters, and the projector with them, on conversations.

    Defaults follow LLaVA-1.5's scripts/v1_5/finetune_lora.sh, for one machine: where the script runs a batch of 16
    on each of 8 devices, this accumulates 8 batches.
    """

    examples: Examples = ("mlx-llava lora --data train.json --images photos --adapter-path adapters",)

    adapter_path: Annotated[Path, MayChange(), flag("FOLDER")]
    """Folder for the adapters and snapshots; run the same command again to resume from it."""
    resume_adapter_file: OptionalFolder = None
    """Start from the adapters in this folder, which another run wrote, instead of new ones."""
    rank: Annotated[int, Limits(1, 2**16)] = 128
    """Rank of the adapters."""
    alpha: Annotated[float, Limits(1e-6, 1e6)] = 256.0
    """Adapters are scaled by alpha / rank."""
    dropout: Annotated[float, Limits(0, 0.99)] = 0.05
    """Dropout on the adapters' inputs."""
    freeze_projector: bool = False
    """Train the adapters only."""
    learning_rate: Rate = 2e-4
    """Peak learning rate of the adapters."""
    mm_projector_lr: Rate = 2e-5
    """Peak learning rate of the projector."""


def fixed_settings(options: TrainingOptions) -> dict[str, Any]:
    """The settings that a resumed run must repeat."""
    changeable = {name for name, _ in marks(type(options), MayChange)}
    return {name: value for name, value in asdict(options).items() if name not in changeable}


def config_of(options: ExampleOptions, config: LlavaConfig) -> LlavaConfig:
    """The model's config with the prompt template and the image fit that the options set."""
    image = replace(config.image, fit=options.fit or config.image.fit)
    return replace(config, template=options.template or config.template, image=image)
