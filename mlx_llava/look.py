"""`mlx-llava look`: training data as the model sees it.

Shows what is trained and what is not, what padding costs, and the pictures that the tower gets. Computes nothing:
the same examples and batches that training makes, spelled out.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from mlx_llava.errors import UsageError
from mlx_llava.program.options import optional, parse
from mlx_llava.program.run import printable, run

if TYPE_CHECKING:
    from mlx_llava.data.examples import ExampleBuilder
    from mlx_llava.data.records import Record
    from mlx_llava.inputs import Example


COLUMNS = 32  # of a picture in the terminal


@dataclass(frozen=True)
class LookOptions:
    """Show training data as the model sees it: what is trained, what padding costs, which pictures it gets."""

    data: Path
    """LLaVA JSON or JSONL, or a folder with train.jsonl."""
    images: Annotated[Path | None, optional("FOLDER")] = None
    """Where the pictures lie."""
    model: Annotated[str | None, optional("MODEL", "-m")] = None
    """Converted folder whose tokenizer and picture settings count; the small model of this package unless given."""
    split: Literal["train", "valid", "test"] = "train"
    """Which file of a folder."""
    template: Annotated[str | None, optional("NAME")] = None
    """Prompt template, instead of the one recorded at conversion."""
    first: int = 1
    """Number of the first record shown."""
    batch_size: int = 4
    """Records shown, as one batch."""
    html: Annotated[Path | None, optional("FILE")] = None
    """Write one self-contained page, with the pictures."""
    stats: bool = False
    """Count all records instead."""


def main() -> None:
    """Run the program."""
    run(lambda: look(parse(LookOptions, "mlx-llava look")))


def look(options: LookOptions) -> None:
    """Show a batch, or the counts of all records."""
    from mlx_llava.data.dataset import read

    records = read(options.data, options.images, options.split)
    if options.stats:
        from mlx_llava.data.statistics import lines, statistics

        print("\n".join(map(printable, lines(statistics(records)))))
        return
    numbers = range(len(records))[options.first - 1 : options.first - 1 + options.batch_size]
    shown = list(records.records(numbers))
    if options.first < 1 or options.batch_size < 1 or not shown:
        raise UsageError(f"--first {options.first}: there are {len(records)} records", "Give a smaller number.")
    builder = _maker(options)
    examples = [builder.example(record) for record in shown]
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    print("\n".join(batch_lines(shown, examples, builder, colour)))
    if options.html:
        from mlx_llava.data.preview_page import page

        options.html.write_text(page(shown, examples, builder), encoding="utf-8")
        print(f"written to {printable(str(options.html))}", file=sys.stderr)


def _maker(options: LookOptions) -> "ExampleBuilder":
    from mlx_llava.checkpoint.config_json import from_hf
    from mlx_llava.checkpoint.folder import converted_config, load_tokenizer
    from mlx_llava.data.examples import ExampleBuilder
    from mlx_llava.prompts.templates import template

    if options.model is None:
        from mlx_llava.embedded import converted

        folder = converted()
    else:
        from mlx_llava.checkpoint.hub import fetch

        folder = fetch(options.model)
    config = from_hf(converted_config(folder, options.model or "embedded"))
    return ExampleBuilder(
        template=template(options.template or config.template),
        tokenizer=load_tokenizer(folder, config),
        image=config.image,
        rows_per_crop=config.rows_per_crop,
        images=options.images,
        max_tokens=config.text.max_position_embeddings,
    )


def batch_lines(
    records: "Sequence[Record]", examples: "Sequence[Example]", builder: "ExampleBuilder", colour: bool
) -> Iterator[str]:
    """A batch as lines of text: what is trained is green, pictures are shown; without colour it stands in 【】."""
    from mlx_llava.data.spans import spans
    from mlx_llava.images.pixels import to_image
    from mlx_llava.images.thumbnail import thumbnail

    lengths = [len(example.tokens) for example in examples]
    trained = [int(example.label_mask.sum()) for example in examples]
    places = max(lengths) * len(lengths)
    yield (
        f"{len(lengths)} records, {sum(lengths)} tokens, {sum(trained)} trained; "
        f"padded to {max(lengths)}: {1 - sum(lengths) / places:.0%} padding"
    )
    open_mark, close_mark = ("\x1b[32m", "\x1b[0m") if colour else ("【", "】")
    for record, example, length, count in zip(records, examples, lengths, trained, strict=True):
        rows = int((example.slots >= 0).sum())
        yield ""
        yield printable(
            f"{record.id}: {length} tokens, {count} trained, {rows} of pictures: {', '.join(record.images)}"
        )
        for crop in example.crops if colour else ():
            yield from thumbnail(to_image(crop, builder.image), COLUMNS)
        text = ""
        for span in spans(example, builder.tokenizer, max(rows // max(len(example.crops), 1), 1)):
            shown = printable(span.text).replace("\n", "⏎\n")
            if span.kind == "image":
                shown = f"[{shown}: {span.num_tokens} tokens]"
            text += f"{open_mark}{shown}{close_mark}" if span.kind == "trained" else shown
        yield text


if __name__ == "__main__":
    main()
