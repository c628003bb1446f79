"""Time to load a model, to encode an image and to prefill a prompt.

A prompt has 576 image positions and 64 text positions. Where that would take minutes, fewer positions are prefilled and
fewer blocks of the tower run.
"""

from collections.abc import Iterator

from generated import weights
from harness import BEST, LM, OURS, VLM, WHEEL, Bench, Cell, measure, name, seconds, speed, start, table

BLOCKS = {BEST: 23, WHEEL: 2}  # blocks of the tower; LLaVA needs 23 of 24
ROWS, FEW = 576 + 64, 16
REPEATS = 2  # per process; the first is the warm-up too


def main() -> None:
    bench = start("Loading, encoding an image, prefill", __doc__, runs=2)
    print(f"Loading float32 weights into memory from the file cache; {bench.runs} processes.\n")
    table(("program", "seconds"), loads(bench))
    print(f"Tower and projector, one image; {REPEATS} calls per process, or one with the wheel's BLAS.\n")
    table(("program", "BLAS", "blocks", "seconds"), towers(bench))
    print(f"Prefill; {REPEATS} calls per process, or one of {FEW} positions.\n")
    table(("weights", "program", "BLAS", "positions", "positions/s"), prefills(bench))
    print(
        "A 2048 x 2048 layer in ms: quantized_matmul, dequantize and multiply, and float32; the median of 20, or of 3"
    )
    print("for 256 rows. Up to `backend.FEW_ROWS` rows we use quantized_matmul.\n")
    layers = measure(bench, [Cell(OURS, "layer", {}, once=True)])[0]
    table(("rows", *layers["columns"]), ((row, *(f"{ms:.2f}" for ms in times)) for row, times in layers["rows"]))


def loads(bench: Bench) -> Iterator[tuple[str, ...]]:
    sizes = {OURS: 5.6, VLM: 5.6, LM: 4.4}
    results = measure(bench, [Cell(side, "loading", weights(bench, side, None)) for side in sizes])
    for (side, size), result in zip(sizes.items(), results, strict=True):
        yield f"{name(side)}, {size} GB", seconds(result)


def towers(bench: Bench) -> Iterator[tuple[str, ...]]:
    cells = []
    for side in (OURS, VLM):
        for blas, blocks in BLOCKS.items():
            arguments = {"blocks": blocks, "repeats": REPEATS if blas == BEST else 1, **weights(bench, side, None)}
            cells.append(Cell(side, "tower", arguments, blas, once=blas == WHEEL))
    for cell, result in zip(cells, measure(bench, cells), strict=True):
        yield cell.side, cell.blas_name, str(cell.arguments["blocks"]), seconds(result)


def prefills(bench: Bench) -> Iterator[tuple[str, ...]]:
    """Rows of the prefill table; quantized_matmul uses no BLAS, so the peers' 4-bit prefill is not repeated."""
    for bits in (None, 4):
        cells = []
        for side, blas in ((OURS, BEST), (OURS, WHEEL), (VLM, BEST), (VLM, WHEEL), (LM, BEST)):
            full = blas == BEST and (side == OURS or bits is None)
            amount = {"rows": ROWS, "repeats": REPEATS} if full else {"rows": FEW, "repeats": 1}
            if blas == BEST or bits is None or side == OURS:
                cells.append(Cell(side, "prefill", amount | weights(bench, side, bits), blas, once=not full))
        for cell, result in zip(cells, measure(bench, cells), strict=True):
            rows = cell.arguments["rows"]
            yield f"{bits} bits" if bits else "float32", name(cell.side), cell.blas_name, str(rows), speed(result, rows)


if __name__ == "__main__":
    main()
