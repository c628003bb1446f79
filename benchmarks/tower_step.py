"""Milliseconds per image of a step that trains a small vision tower: forward, backward and AdamW.

Images of 96 pixels, 64 patches, width 128, 5 blocks, 1.06 million weights, float32, 32 images per batch. Each patch is
classified. All sides have the same weights and images, so the losses agree.
"""

from collections.abc import Iterator

from harness import BEST, MKL, OURS, TORCH, WHEEL, Bench, Cell, measure, start, table

STEPS = {BEST: 30, MKL: 30, WHEEL: 5}  # by BLAS, per process
BATCH_SIZE = 32


def main() -> None:
    bench = start("A step of a small tower", __doc__, runs=3)
    print(f"{STEPS[BEST]} steps in each of {bench.runs} processes; with the wheel's BLAS, {STEPS[WHEEL]} in one.\n")
    table(("program", "BLAS", "ms per image", "first loss"), steps(bench))


def steps(bench: Bench) -> Iterator[tuple[str, ...]]:
    sides = ((OURS, BEST), (OURS, MKL), (OURS, WHEEL), (TORCH, BEST))
    cells = [Cell(side, "tower_step", {"steps": STEPS[blas]}, blas, once=blas == WHEEL) for side, blas in sides]
    for cell, result in zip(cells, measure(bench, cells), strict=True):
        if "failed" in result:
            yield cell.side, cell.blas_name, result["failed"], ""
        else:
            per_image = result["seconds"] * 1e3 / BATCH_SIZE
            yield cell.side, cell.blas_name, f"{per_image:.1f}", f"{result['loss']:.4f}"


if __name__ == "__main__":
    main()
