"""Weights from any source, planned and written row by row.

- `algebra`: where the rows of a weight come from.
- `changes`: what adapters do to a weight.
- `quantize`: which layers are quantized, and how.
- `plan`, `writer`: what is written and in which form; the files it is written to.
- `output_folder`, `progress`: the folder appears whole; what is printed meanwhile.
"""
