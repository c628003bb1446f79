"""Reads a source: configs and headers first, weights only when they are written.

- `files`: which weight files a checkpoint has, downloaded if needed.
- `names`: the table from published tensor names to ours.
- `vocabulary`, `image_processor`, `adapters`, `peft`, `new_projector`: one part of a checkpoint each.
- `gather`: everything the flags name, as `Inputs`.
- `inventory`: from `Inputs`, a tensor for every weight of the model, and none left over.
- `converted_folder`: a converted folder as the source of `fuse` and `export`.
"""
