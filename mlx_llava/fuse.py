"""`mlx-llava fuse`: a converted folder and its adapter become one converted folder.

Layer by layer, and packed again as they were: what has no adapter is copied bit for bit.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from mlx_llava import __version__
from mlx_llava.errors import UsageError
from mlx_llava.program.options import optional, parse
from mlx_llava.program.run import printable, run

if TYPE_CHECKING:
    from mlx_llava.checkpoint.quantization import Quantization
    from mlx_llava.convert.options import ConvertOptions
    from mlx_llava.convert.sources.converted import Converted
    from mlx_llava.convert.weights.plan import Planned


@dataclass(frozen=True, kw_only=True)
class FuseOptions:
    """Merge adapters into the model that they were trained on."""

    model: Annotated[str | None, optional("MODEL", "-m")] = None
    """Converted folder that the adapters belong to; the small model of this package unless given."""
    adapter_path: Path
    """Folder of the adapters, or of a projector alone."""
    mlx_path: Annotated[Path, arg(aliases=["--save-path"])]
    """Folder to write. It appears whole or not at all."""
    dequantize: bool = False
    """Write a packed model unpacked."""
    quantize: Annotated[bool, arg(aliases=["-q"])] = False
    """Pack the language model anew, as the next flags say; a packed model is packed as it was unless given."""
    q_bits: Annotated[int | None, optional("N")] = None
    """Bits per weight."""
    q_group_size: Annotated[int | None, optional("N")] = None
    """Weights that share a scale."""
    q_mode: Literal["affine", "mxfp4", "nvfp4", "mxfp8"] = "affine"
    """How weights are packed."""
    overwrite: bool = False
    """Replace an existing output folder."""


def main() -> None:
    """Run the program."""
    run(lambda: fuse(parse(FuseOptions, "mlx-llava fuse")))


def fuse(options: FuseOptions) -> None:
    """Write the merged folder; the plan and the progress go to stderr."""
    _check(options)
    from mlx_llava.convert.sources.converted import read
    from mlx_llava.convert.weights.output_folder import appearing
    from mlx_llava.convert.weights.plan import outputs, write_weights
    from mlx_llava.convert.weights.progress import Progress
    from mlx_llava.resolve import folder_of

    base = folder_of(options.model)
    converted = read(base, options.model or base.name, options.adapter_path)
    packings = _packings(options, converted)
    plan = [*planned(converted, packings)]
    num_bytes = sum(output.num_bytes for output in outputs(plan))
    lines = [*_lines(options, converted, packings)]
    for line in lines:
        print(printable(line), file=sys.stderr)
    with appearing(options.mlx_path, options.overwrite, num_bytes) as folder, Progress(num_bytes) as progress:
        (folder / "tokenizer.json").write_bytes((base / "tokenizer.json").read_bytes())
        (folder / "config.json").write_text(_config(options, converted, packings), encoding="utf-8")
        text = "".join(f"- {printable(line)}\n" for line in lines)
        (folder / "README.md").write_text(f"# Merged by mlx-llava\n\n{text}", encoding="utf-8")
        write_weights(folder, plan, progress)
    print(f"written to {printable(str(options.mlx_path))}", file=sys.stderr)


def planned(converted: "Converted", packings: Mapping[str, "Quantization"]) -> "Iterator[Planned]":
    """Every weight: merged and packed where that changes it, copied bit for bit where it does not."""
    from mlx_llava.convert.weights.plan import Planned

    for name, weight in converted.weights().items():
        path = name.rpartition(".")[0]
        packing = packings.get(path) if name.endswith(".weight") else None
        if packing and converted.keeps(path, packing):
            yield from converted.copied(path)
        else:
            yield Planned(name, weight, converted.dtype_of(weight), packing)


def _check(options: FuseOptions) -> None:
    """Refuse what flags alone tell to be wrong."""
    from mlx_llava.convert.weights.output_folder import check_apart, check_target
    from mlx_llava.convert.weights.quantize import uniform

    if options.dequantize and options.quantize:
        raise UsageError("--dequantize and -q exclude each other", "Leave one out.")
    uniform(_convert_options(options))
    check_apart(options.mlx_path, options.model, options.adapter_path)
    check_target(options.mlx_path, options.overwrite)


def _convert_options(options: FuseOptions) -> "ConvertOptions":
    from mlx_llava.convert.options import ConvertOptions

    names = ("quantize", "q_bits", "q_group_size", "q_mode")
    return ConvertOptions(options.model or "", options.mlx_path, **{name: getattr(options, name) for name in names})


def _packings(options: FuseOptions, converted: "Converted") -> Mapping[str, "Quantization"]:
    from mlx_llava.convert.weights.quantize import choose
    from mlx_llava.models.llava import Llava

    if options.dequantize:
        return {}
    return choose(Llava(converted.config), _convert_options(options)) if options.quantize else converted.quantized


def _lines(options: FuseOptions, converted: "Converted", packings: Mapping[str, "Quantization"]) -> Iterator[str]:
    """What is merged into what, for a person."""
    tuned = converted.tuned
    assert tuned is not None  # an adapter folder was asked for
    projector = " and the projector" if tuned.projector else ""
    yield f"{options.model or converted.source}: {len(tuned.layers)} adapters{projector} of {options.adapter_path}"
    copied = sum(converted.keeps(path, packing) for path, packing in packings.items())
    yield f"{len(packings)} layers packed, {copied} of them copied as they were" if packings else "nothing packed"


def _config(options: FuseOptions, converted: "Converted", packings: Mapping[str, "Quantization"]) -> str:
    source = {"name": converted.source, "adapters": str(options.adapter_path), "converter": f"mlx-llava {__version__}"}
    values = {
        **converted.values,
        "mlx_llava": {**converted.values["mlx_llava"], "source": source},
        "quantization": {path: asdict(packing) for path, packing in packings.items()},
    }
    return json.dumps(values, indent=1) + "\n"


if __name__ == "__main__":
    main()
