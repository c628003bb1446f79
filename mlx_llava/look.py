"""`mlx-llava look`: training data as the model sees it.

Prints the examples and batches that training would use, without computing anything.
"""

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from mlx_llava.errors import UsageError
from mlx_llava.program.flags import Examples, flag
from mlx_llava.program.limits import Limits, check_limits
from mlx_llava.program.options import parse
from mlx_llava.program.run import log, run
from mlx_llava.program.text import printable

if TYPE_CHECKING:
    from mlx_llava.data.examples import ExampleBuilder


@dataclass(frozen=True, kw_only=True)
class LookOptions:
    """Show training data as the model sees it: what is trained, what padding costs, and the images."""

    examples: Examples = ("mlx-llava look --data train.json --images photos",)

    data: Path
    """LLaVA JSON or JSONL, or a folder with train.jsonl."""
    images: Annotated[Path | None, flag("FOLDER")] = None
    """Folder of the images."""
    model: Annotated[str | None, flag("MODEL", "-m")] = None
    """Converted folder whose tokenizer and image settings to use (default: the small bundled model)."""
    split: Literal["train", "valid", "test"] = "train"
    """File to read if --data is a folder."""
    template: Annotated[str | None, flag("NAME")] = None
    """Prompt template (default: the one recorded at conversion)."""
    first: Annotated[int, Limits(1, 2**31)] = 1
    """Number of the first record to show."""
    batch_size: Annotated[int, Limits(1, 2**31)] = 4
    """Number of records to show, as one batch."""
    html: Annotated[Path | None, flag("FILE")] = None
    """Also write a self-contained HTML page with the images."""
    stats: bool = False
    """Print statistics over all records instead."""


def main() -> None:
    run(lambda: look(parse(LookOptions, "mlx-llava look")))


def look(options: LookOptions) -> None:
    """Print a batch, or statistics over all records."""
    check_limits(options)
    from mlx_llava.data.dataset import read

    dataset = read(options.data, options.images, options.split)
    if options.stats:
        from mlx_llava.data.statistics import lines, statistics

        print("\n".join(map(printable, lines(statistics(dataset)))))
        return
    records = list(dataset.records(range(len(dataset))[options.first - 1 :][: options.batch_size]))
    if not records:
        raise UsageError(f"--first {options.first}: there are {len(dataset)} records", "Give a smaller number.")
    builder = _builder(options)
    from mlx_llava.data import preview, preview_page

    examples = [builder.example(record) for record in records]
    color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    print("\n".join(preview.lines(records, examples, builder, color=color)))
    if options.html:
        options.html.write_text(preview_page.page(records, examples, builder), encoding="utf-8")
        log(f"written to {options.html}")


def _builder(options: LookOptions) -> "ExampleBuilder":
    from mlx_llava.checkpoint.config_json import from_hf
    from mlx_llava.checkpoint.folder import converted_config, load_tokenizer
    from mlx_llava.checkpoint.hub import EMBEDDED
    from mlx_llava.data.examples import ExampleBuilder
    from mlx_llava.resolve import folder_of

    folder = folder_of(options.model)
    config = from_hf(converted_config(folder, options.model or EMBEDDED))
    config = replace(config, template=options.template or config.template)
    return ExampleBuilder.of(config, load_tokenizer(folder, config), options.images)


if __name__ == "__main__":
    main()
