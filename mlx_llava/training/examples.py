"""The examples of a file of training data, as every stage trains them and `mlx-llava look` shows them.

MLX-free.
"""

from dataclasses import replace

from mlx_llava.config import LlavaConfig
from mlx_llava.data.builder import ExampleBuilder
from mlx_llava.data.examples import Examples
from mlx_llava.data.reading import read
from mlx_llava.prompts.tokens import Tokenizer
from mlx_llava.training.options import ExampleOptions, config_of
from mlx_llava.training.progress import progress


def read_examples(options: ExampleOptions, config: LlavaConfig, tokenizer: Tokenizer, split: str) -> Examples:
    """The examples of a split for the model of a config, all checked; raises RecordError, or leaves bad records out."""
    builder = ExampleBuilder.of(config_of(options, config), tokenizer, options.images)
    max_tokens = min(options.max_tokens, builder.max_tokens)
    builder = replace(builder, max_tokens=max_tokens, images_first=not options.as_written)
    dataset = read(
        options.data,
        options.images,
        split,
        builder=builder,
        skip_bad=options.leave_out,
        num_workers=options.workers,
        report=progress("checking the records"),
    )
    return Examples(dataset, builder)
