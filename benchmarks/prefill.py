"""Time to load a model, to see a picture and to read a prompt.

A prompt is 576 positions of a picture and 64 of text. Where that would take minutes, fewer positions are read and
fewer of the tower's blocks are run.
"""

from collections.abc import Iterator

from harness import LM, OURS, VLM, Bench, Cell, measure, name, seconds, speed, start, table
from model import weights

BLOCKS = {True: 23, False: 2}  # of the tower, with the fast and with the wheel's BLAS; LLaVA needs 23 of 24
ROWS, FEW = 576 + 64, 16
REPEATS = 2  # in a process; the first also warms up


def main() -> None:
    """Print the tables."""
    bench = start("Loading, seeing and reading", __doc__, runs=2)
    print(f"Weights into memory, float32, from the file cache; the fastest of {bench.runs}.\n")
    table(("program", "seconds"), loads(bench))
    print(f"Tower and projector, one picture; the fastest of {REPEATS * bench.runs}, of 1 with the wheel's BLAS.\n")
    table(("program", "BLAS", "blocks", "seconds"), towers(bench))
    print(f"Prefill; the fastest of {REPEATS * bench.runs}, of 1 where {FEW} positions are read.\n")
    table(("weights", "program", "BLAS", "positions", "positions/s"), prefills(bench))
    print("A quantized layer, 2048 x 2048, packed (quantized_matmul) and unpacked (dequantize, then multiply), in ms;")
    print("the fastest of 20, of 3 for 256 rows. `backend.FEW_ROWS` is the most rows that we leave packed.\n")
    layers = measure(bench, [Cell(OURS, "layer", {}, once=True)])[0]
    table(("rows", *layers["columns"]), ((row, *(f"{ms:.2f}" for ms in times)) for row, times in layers["rows"]))


def loads(bench: Bench) -> Iterator[tuple[str, ...]]:
    """Rows of the first table."""
    sizes = {OURS: 5.6, VLM: 5.6, LM: 4.4}
    results = measure(bench, [Cell(side, "loading", weights(bench, side, None)) for side in sizes])
    for (side, size), result in zip(sizes.items(), results, strict=True):
        yield f"{name(side)}, {size} GB", seconds(result)


def towers(bench: Bench) -> Iterator[tuple[str, ...]]:
    """Rows of the second table."""
    cells = []
    for side in (OURS, VLM):
        for fast, blocks in BLOCKS.items():
            arguments = {"blocks": blocks, "repeats": REPEATS if fast else 1, **weights(bench, side, None)}
            cells.append(Cell(side, "tower", arguments, fast, once=not fast))
    for cell, result in zip(cells, measure(bench, cells), strict=True):
        yield cell.side, blas(cell), str(cell.arguments["blocks"]), seconds(result)


def prefills(bench: Bench) -> Iterator[tuple[str, ...]]:
    """Rows of the third table; what leaves packed weights packed is as slow with any BLAS."""
    for bits in (None, 4):
        cells = []
        for side, fast in ((OURS, True), (OURS, False), (VLM, True), (VLM, False), (LM, True)):
            many = fast and (side == OURS or bits is None)
            amount = {"rows": ROWS, "repeats": REPEATS} if many else {"rows": FEW, "repeats": 1}
            if fast or bits is None or side == OURS:
                cells.append(Cell(side, "prefill", amount | weights(bench, side, bits), fast, once=not many))
        for cell, result in zip(cells, measure(bench, cells), strict=True):
            rows = cell.arguments["rows"]
            yield f"{bits} bits" if bits else "float32", name(cell.side), blas(cell), str(rows), speed(result, rows)


def blas(cell: Cell) -> str:
    """Which BLAS a row was measured with."""
    return "fast" if cell.fast else "wheel's"


if __name__ == "__main__":
    main()
