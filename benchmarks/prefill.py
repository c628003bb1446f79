"""Time to load a model, to encode an image and to prefill a prompt.

A prompt has 576 image positions and 64 text positions. Where that would take minutes, fewer positions are prefilled and
fewer blocks of the tower run, and without `--shared` none.
"""

from collections.abc import Iterator

from generated import LABELS, OUR_BLASES, TEXT_SIDES, is_slow, weights
from harness import (
    BEST,
    LLAMA_CPP,
    LM,
    OURS,
    TORCH,
    VLM,
    WHEEL,
    Bench,
    Cell,
    measure,
    name,
    seconds,
    speed,
    start,
    table,
)

TOWER_SIDES = (*OUR_BLASES, (VLM, BEST), (VLM, WHEEL), (TORCH, BEST))
BLOCKS, FEW_BLOCKS = 23, 2  # of the tower; LLaVA needs 23 of 24
ROWS, FEW_ROWS = 576 + 64, 16


def main() -> None:
    bench = start("Loading, encoding an image, prefill", __doc__, runs=3)
    print("Loading float32 weights into memory from the file cache, once per process.\n")
    table(("program", "seconds"), loads(bench))
    print("Tower and projector, one image, once per process after a warm-up. transformers runs the last block too.\n")
    table(("program", "BLAS", "blocks", "seconds"), towers(bench))
    print(f"Prefill, once per process after {FEW_ROWS} positions.\n")
    table(("weights", "program", "BLAS", "positions", "positions/s"), prefills(bench))
    backend = measure(bench, [Cell(LLAMA_CPP, "backend", {}, once=True)])[0]
    print(f"llama.cpp's backend: {backend.get('failed') or backend['backend']}.\n")
    print("A 2048 x 2048 layer in ms, medians of 19 calls, of 3 with 256 rows. Ours is the C extension, if in use.\n")
    layers = measure(bench, [Cell(OURS, "layer", {}, once=True)])[0]
    table(("rows", *layers["columns"]), ((row, *(f"{ms:.2f}" for ms in times)) for row, times in layers["rows"]))


def loads(bench: Bench) -> Iterator[tuple[str, ...]]:
    sizes = {OURS: 5.6, VLM: 5.6, LM: 4.4, LLAMA_CPP: 4.4}
    results = measure(bench, [Cell(side, "loading", weights(bench, side, None)) for side in sizes])
    for (side, size), result in zip(sizes.items(), results, strict=True):
        yield f"{name(side)}, {size} GB", seconds(result)


def towers(bench: Bench) -> Iterator[tuple[str, ...]]:
    cells = []
    for side, blas in TOWER_SIDES:
        blocks = FEW_BLOCKS if blas == WHEEL else BLOCKS + (side == TORCH)
        task = {"blocks": blocks, "repeats": 1 if blas == WHEEL else 2}
        if bench.shared or blas != WHEEL:
            cells.append(Cell(side, "tower", task | weights(bench, side, None), blas, once=blas == WHEEL))
    for cell, result in zip(cells, measure(bench, cells), strict=True):
        yield cell.side, cell.blas_name, str(cell.arguments["blocks"]), seconds(result)


def prefills(bench: Bench) -> Iterator[tuple[str, ...]]:
    """Rows of the prefill table."""
    for bits in (None, 16, 4):  # 8 bits are like 4
        cells = []
        for side, blas in TEXT_SIDES[bits]:
            slow = is_slow(side, blas, bits)
            task = {"rows": FEW_ROWS if slow else ROWS} | weights(bench, side, bits)
            if bench.shared or not slow:
                cells.append(Cell(side, "prefill", task, blas, once=slow))
        for cell, result in zip(cells, measure(bench, cells), strict=True):
            rows = cell.arguments["rows"]
            yield LABELS[bits], name(cell.side), cell.blas_name, str(rows), speed(result, rows)


if __name__ == "__main__":
    main()
