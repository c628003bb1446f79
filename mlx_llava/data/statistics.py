"""Statistics of a dataset, and a table of them."""

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from mlx_llava.data.records import Record

PREFIX = 2  # words at the start of a question that show its kind


@dataclass
class Statistics:
    """Counts over all records."""

    records: int = 0
    text_only: int = 0
    images: int = 0
    turns: int = 0
    answer_words: "array[int]" = field(default_factory=lambda: array("q"))  # one per answer
    prefixes: Counter[str] = field(default_factory=Counter)  # of questions


def statistics(records: Iterable[Record]) -> Statistics:
    """Count over records."""
    counts = Statistics()
    for record in records:
        counts.records += 1
        counts.text_only += not record.images
        counts.images += len(record.images)
        counts.turns += len(record.turns)
        for turn in record.turns:
            counts.answer_words.append(len((turn.answer or "").split()))
            text = " ".join(part for part in turn.parts() if isinstance(part, str))
            counts.prefixes[" ".join(text.split(maxsplit=PREFIX)[:PREFIX]).lower()] += 1
    return counts


def lines(counts: Statistics, num_prefixes: int = 10) -> list[str]:
    """The counts as lines of a table."""
    words, num_records = np.asarray(counts.answer_words), max(counts.records, 1)
    rows = [
        ("records", f"{counts.records:,}"),
        ("text only", f"{counts.text_only:,} ({counts.text_only / num_records:.1%})"),
        ("images", f"{counts.images:,}"),
        ("turns", f"{counts.turns:,} ({counts.turns / num_records:.2f} per record)"),
    ]
    if len(words):
        median, p95 = np.percentile(words, [50, 95])
        spread = f"mean {words.mean():.1f}, median {median:.0f}, 95% up to {p95:.0f}, longest {words.max():,}"
        rows.append(("words per answer", spread))
    for prefix, count in counts.prefixes.most_common(num_prefixes):
        rows.append((f"  {prefix or '(no words)'} ...", f"{count:,} ({count / counts.turns:.1%} of the questions)"))
    width = max(len(name) for name, _ in rows)
    return [f"{name:<{width}}  {value}" for name, value in rows]
