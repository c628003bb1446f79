"""`mlx-llava doctor`: versions, device, memory and caches, for a bug report."""

import json
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mlx_llava import __version__
from mlx_llava.checkpoint.hub import hub_cache
from mlx_llava.program.blas import name_of_blas
from mlx_llava.program.flags import Examples
from mlx_llava.program.options import parse
from mlx_llava.program.paths import cache_folder
from mlx_llava.program.run import run
from mlx_llava.program.text import size

PACKAGES = ("mlx", "mlx-lm", "numpy", "pillow", "tokenizers", "huggingface_hub", "transformers", "torch")


@dataclass(frozen=True)
class DoctorOptions:
    """Show versions, device, memory, BLAS, caches and free disk space."""

    examples: Examples = ("mlx-llava doctor --json",)

    json: bool = False
    """Print one JSON object instead of lines."""


def main() -> None:
    run(lambda: doctor(parse(DoctorOptions, "mlx-llava doctor")))


def doctor(options: DoctorOptions) -> None:
    """Print the facts, as lines or as JSON."""
    facts = collect()
    print(json.dumps(facts, indent=1) if options.json else "\n".join(lines(facts)))


def collect() -> dict[str, Any]:
    """Facts about the machine and the installation; sizes in bytes, None for a package that is not installed."""
    import mlx.core as mx

    from mlx_llava.models import backend

    own = {"mlx-llava": __version__, "python": platform.python_version()}
    return {
        "versions": own | {package: _version(package) for package in PACKAGES},
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "device": "cpu" if backend.on_cpu() else str(mx.device_info().get("device_name", "gpu")),
        "memory": backend.memory_limit(),
        "cpu_blas": name_of_blas(),
        "caches": {name: _space(path) for name, path in (("mlx-llava", cache_folder()), ("hub", hub_cache()))},
    }


def lines(facts: dict[str, Any]) -> Iterator[str]:
    """The facts as aligned lines of text."""
    rows = [(name, value or "not installed") for name, value in facts["versions"].items()]
    rows += [("system", facts["system"]), ("device", facts["device"])]
    rows += [("memory", f"{size(facts['memory'])} available to a model"), ("CPU BLAS", facts["cpu_blas"])]
    for name, cache in facts["caches"].items():
        rows += [(f"{name} cache", f"{cache['path']} ({size(cache['free'])} free)")]
    width = max(len(name) for name, _ in rows)
    yield from (f"{name:{width}}  {value}" for name, value in rows)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _space(folder: Path) -> dict[str, Any]:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return {"path": str(folder), "free": shutil.disk_usage(existing).free}


if __name__ == "__main__":
    main()
