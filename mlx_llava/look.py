"""`mlx-llava look`: training data as the model sees it.

Builds the examples that a training command with the same options builds, and computes nothing with them.
"""

import os
import sys
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from mlx_llava.errors import ImageError, UsageError
from mlx_llava.program.flags import Examples, flag, flags_of
from mlx_llava.program.limits import Limits, check_limits
from mlx_llava.program.options import parse
from mlx_llava.program.recipe import last_value, program_of, read_recipe
from mlx_llava.program.run import log, run
from mlx_llava.program.text import obeys_escapes, printable
from mlx_llava.training.options import ExampleOptions, FinetuneOptions, LoraOptions, PretrainOptions

if TYPE_CHECKING:
    from mlx_llava.data import examples
    from mlx_llava.data.records import Record
    from mlx_llava.inputs import Example

Stage = Literal["lora", "finetune", "pretrain"]
STAGES = {"lora": LoraOptions, "finetune": FinetuneOptions, "pretrain": PretrainOptions}


@dataclass(frozen=True, kw_only=True)
class LookOptions(ExampleOptions):
    """Show training data as the model sees it: what is trained, what padding costs, and the images."""

    examples: Examples = (
        "mlx-llava look --data train.json --images photos",
        "mlx-llava look --data captions.json --images photos --stage pretrain",
    )

    stage: Stage | None = None
    """Training command whose defaults apply (default: the recipe's, or lora)."""
    recipe: Annotated[str | None, flag("RECIPE", "-c", "--config")] = None
    """Recipe of that command; its options for data and model apply."""
    split: Literal["train", "valid", "test"] = "train"
    """File to read if --data is a folder."""
    first: Annotated[int, Limits(1, 2**31)] = 1
    """Number of the first record to show."""
    batch_size: Annotated[int, Limits(1, 2**31)] = 4
    """Number of records to show, as one batch."""
    html: Annotated[Path | None, flag("FILE")] = None
    """Also write a self-contained HTML page with the images."""
    stats: bool = False
    """Print statistics over all records instead."""


def main() -> None:
    run(lambda: look(parse(LookOptions, "mlx-llava look", defaults_of=stage_defaults)))


def stage_defaults(arguments: Sequence[str]) -> dict[str, Any]:
    """The defaults of the training command, or the values of its recipe, for the options that look shares with it."""
    recipe = last_value(arguments)
    stage = last_value(arguments, ["--stage"]) or (program_of(recipe) if recipe else None)
    stage = str(stage) if stage in STAGES else "lora"
    table = flags_of(STAGES[stage])
    values = {flag.field: flag.default for flag in table if not flag.required}
    values |= read_recipe(recipe, table, stage) if recipe else {}
    shared = {field.name for field in fields(ExampleOptions)}
    return {name: value for name, value in values.items() if name in shared}


def look(options: LookOptions) -> None:
    """Print a batch, or statistics over all records."""
    check_limits(options)
    found = training_examples(options)
    dataset = found.dataset
    if dataset.left_out:
        from mlx_llava.data.bad_records import summary

        log(f"{len(dataset.left_out)} left out: {summary(dataset.left_out)}")
    if options.stats:
        from mlx_llava.data.statistics import lines, statistics

        print("\n".join(map(printable, lines(statistics(dataset)))))
        return
    records, shown = records_shown(options, found)
    if not records:
        problem = f"--first {options.first}: no record to show, the last is number {dataset.number(-1)}"
        raise UsageError(problem, "Give a smaller number.")
    from mlx_llava.data import preview, preview_page

    color = obeys_escapes(sys.stdout) and not os.environ.get("NO_COLOR")
    print("\n".join(preview.lines(records, shown, found.builder, color=color)))
    if options.html:
        options.html.write_text(preview_page.page(records, shown, found.builder), encoding="utf-8")
        log(f"written to {options.html}")


def records_shown(options: LookOptions, found: "examples.Examples") -> "tuple[list[Record], list[Example]]":
    """The records from --first on, with their examples; --leave-out skips those whose images cannot be opened."""
    records, shown = [], []
    start = bisect_left(range(len(found)), options.first, key=found.dataset.number)
    for record in found.dataset.records(range(start, len(found))):
        try:
            shown.append(found.builder.example(record))
        except ImageError as error:
            if not options.leave_out:
                raise
            log(f"left out: {error.problem}")
            continue
        records.append(record)
        if len(records) == options.batch_size:
            break
    return records, shown


def training_examples(options: LookOptions) -> "examples.Examples":
    """The examples that training with these options has."""
    from mlx_llava.checkpoint.config_json import from_hf
    from mlx_llava.checkpoint.folder import converted_config, load_tokenizer
    from mlx_llava.checkpoint.hub import EMBEDDED
    from mlx_llava.resolve import folder_of
    from mlx_llava.training.examples import read_examples

    folder = folder_of(options.model)
    config = from_hf(converted_config(folder, options.model or EMBEDDED))
    return read_examples(options, config, load_tokenizer(folder, config), options.split)


if __name__ == "__main__":
    main()
