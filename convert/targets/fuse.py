"""A converted folder and its adapters, merged into one converted folder.

Layer by layer; a quantized layer is quantized again in the same way, and without an adapter it is copied bit for bit.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from mlx_llava import __version__
from mlx_llava.checkpoint.hub import EMBEDDED
from mlx_llava.convert.options import QuantizeOptions
from mlx_llava.convert.sources.converted_folder import ConvertedFolder, read
from mlx_llava.convert.weights.output_folder import appearing, card, write_files
from mlx_llava.convert.weights.plan import OnBytes, Planned, size_of, write_weights
from mlx_llava.convert.weights.quantize import Choice, choose
from mlx_llava.models.llava import Llava


@dataclass(frozen=True)
class Merge:
    """A merge that has been checked and can be written."""

    name: str
    folder: ConvertedFolder
    adapter_path: Path
    choice: Choice

    def plan(self) -> Iterator[Planned]:
        """Every tensor to write: copied, merged, or merged and quantized."""
        for name, weight in self.folder.weights().items():
            path = name.rpartition(".")[0]
            quantization = self.choice.table.get(path) if name.endswith(".weight") else None
            if quantization and self.folder.keeps(path, quantization):
                yield from self.folder.copied(path)
            else:
                yield Planned(name, weight, self.folder.dtype_of(weight), quantization)

    def lines(self) -> Iterator[str]:
        """What is merged into what."""
        adapters = self.folder.adapters
        projector = " and the projector" if adapters and adapters.projector else ""
        yield f"{self.name}: {len(adapters.layers) if adapters else 0} adapters{projector} of {self.adapter_path}"
        copied = sum(self.folder.keeps(path, quantization) for path, quantization in self.choice.table.items())
        yield self.choice.summary() + (f"; {copied} of them copied" if copied else "")
        yield from self.choice.notes()


def prepare(base: Path, name: str | None, adapter: Path, options: QuantizeOptions, *, dequantize: bool) -> Merge:
    """Check the adapters of the converted folder `base`, which the user calls `name`, and plan the merge."""
    folder = read(base, name or base.name, adapter)
    kept = Choice() if dequantize else Choice(folder.quantized)
    choice = choose(Llava(folder.config), options) if options.quantize else kept
    return Merge(name or EMBEDDED, folder, adapter, choice)


def write(merge: Merge, target: Path, *, overwrite: bool, progress: OnBytes) -> None:
    """Write the merged folder; a failure leaves what was there."""
    values = merge.folder.values
    source = {"name": merge.folder.source, "adapters": str(merge.adapter_path), "converter": f"mlx-llava {__version__}"}
    quantization = {path: asdict(quantization) for path, quantization in merge.choice.table.items()}
    values = {**values, "mlx_llava": {**values["mlx_llava"], "source": source}, "quantization": quantization}
    plan = [*merge.plan()]
    with appearing(target, overwrite, size_of(plan)) as folder:
        tokenizer = (merge.folder.path / "tokenizer.json").read_bytes()
        write_files(folder, values, tokenizer, card("Merged by mlx-llava", merge.lines()))
        write_weights(folder, plan, progress)
