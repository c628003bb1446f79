"""`mlx-llava doctor`: versions, backend, device, memory and caches, for a bug report; which models fit."""

import json
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mlx_llava import __version__
from mlx_llava.catalog.offers import OFFERS, Offer, memory, verdict
from mlx_llava.checkpoint.hub import hub_cache
from mlx_llava.errors import InstallationError
from mlx_llava.program.blas import name_of_blas, reason_for_blas
from mlx_llava.program.flags import Examples
from mlx_llava.program.installation import backend_packages
from mlx_llava.program.options import parse
from mlx_llava.program.paths import cache_folder
from mlx_llava.program.run import explain, run
from mlx_llava.program.text import size

PACKAGES = ("mlx", "mlx-lm", "numpy", "pillow", "tokenizers", "huggingface_hub", "transformers", "torch")


@dataclass(frozen=True)
class DoctorOptions:
    """Show versions, device, memory, BLAS, caches, free disk space, and which recommended models fit."""

    examples: Examples = ("mlx-llava doctor --json",)

    json: bool = False
    """Print one JSON object instead of lines."""


def main() -> None:
    run(lambda: doctor(parse(DoctorOptions, "mlx-llava doctor")))


def doctor(options: DoctorOptions) -> None:
    """Print the facts, as lines or as JSON; then an error if MLX cannot be loaded."""
    facts = collect()
    print(json.dumps(facts, indent=1) if options.json else "\n".join(lines(facts)), flush=True)
    if problem := facts["problem"]:
        raise InstallationError(problem["problem"], problem["advice"])


def collect() -> dict[str, Any]:
    """Facts about the machine and the installation; sizes in bytes, None for what is not installed or not known."""
    own = {"mlx-llava": __version__, "python": platform.python_version()}
    return {
        "versions": own | {package: _version(package) for package in PACKAGES},
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "backends": backend_packages(),
        **_device(),
        "cpu_blas": name_of_blas(),
        "cpu_blas_reason": reason_for_blas(),
        "caches": {name: _space(path) for name, path in (("mlx-llava", cache_folder()), ("hub", hub_cache()))},
        "recommended": [_fit(offer) for offer in OFFERS],
    }


def _device() -> dict[str, Any]:
    """The device that MLX computes on, its memory and (on a CPU) its speed, or why MLX cannot be loaded."""
    try:
        import mlx.core as mx

        from mlx_llava.models import backend
    except ImportError as error:
        explained = explain(error)
        if explained is None:
            raise
        nothing = {"device": None, "memory": None, "gflops": None}
        return {**nothing, "problem": {"problem": explained.problem, "advice": explained.advice}}
    device = "cpu" if backend.on_cpu() else str(mx.device_info().get("device_name", "gpu"))
    gflops = backend.gflops() if backend.on_cpu() else None
    return {"device": device, "memory": backend.memory_limit(), "gflops": gflops, "problem": None}


def _fit(offer: Offer) -> dict[str, Any]:
    facts = {"name": offer.name, "repository": offer.repository, "bytes": offer.size, "memory": offer.need}
    return {**facts, "verdict": verdict(offer, memory())}


def lines(facts: dict[str, Any]) -> Iterator[str]:
    """The facts as aligned lines of text."""
    rows = [(name, value or "not installed") for name, value in facts["versions"].items()]
    rows += [("system", facts["system"]), *_backend_rows(facts["backends"])]
    rows += [("device", facts["device"] or "unknown: MLX cannot be loaded")]
    rows += [("memory", f"{size(facts['memory'])} available to a model")] if facts["memory"] else []
    speed = f", {facts['gflops']:.0f} GFLOP/s" if facts["gflops"] else ""
    rows += [("CPU BLAS", f"{facts['cpu_blas']}{speed}"), ("", facts["cpu_blas_reason"])]
    for name, cache in facts["caches"].items():
        rows += [(f"{name} cache", f"{cache['path']} ({size(cache['free'])} free)")]
    for offer in facts["recommended"]:
        needs = f"{size(offer['bytes'])} of disk in 4 bits, {size(offer['memory'])} of memory"
        rows += [(offer["name"], f"{offer['verdict']} ({needs})")]
    width = max(len(name) for name, _ in rows)
    yield from (f"{name:{width}}  {value}" for name, value in rows)


def _backend_rows(packages: list[str]) -> Iterator[tuple[str, str]]:
    """The package whose library MLX loads, and others that are installed but overwritten, on Linux."""
    if packages:
        yield "MLX backend", packages[0]
    for other in packages[1:]:
        yield (
            "",
            f"{other} is installed too, but not in use: pip install --force-reinstall --no-deps {other} changes that",
        )


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
