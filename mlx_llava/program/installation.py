"""Packages that are missing or broken, MLX above all, as errors for the user. Never imports MLX.

On Linux MLX's native library comes from one of three packages, which own the same path: the one installed last is in
place (docs/decisions/0007-backend.md).
"""

import sys
from importlib.metadata import PackageNotFoundError, distribution, requires
from pathlib import Path

from mlx_llava.errors import InstallationError

EXTRAS = {"mlx-cuda-13": "cuda13", "mlx-cuda-12": "cuda12", "mlx-cpu": "cpu"}  # of mlx, by the package that it adds
LIBRARY = "mlx/lib/libmlx.so"


def explain_import(error: ImportError) -> InstallationError | None:
    """A package that cannot be imported, as an error for the user; None if it is a module of this program."""
    name = error.name or ""
    if name.partition(".")[0] == "mlx_llava":
        return None
    if name.partition(".")[0] == "mlx" or Path(error.path or "").parent.name == "mlx":
        return _about_mlx(error)
    return InstallationError(f"a package is missing or broken: {error}", "Install mlx-llava again, with its packages.")


def backend_packages() -> list[str]:
    """The installed packages that bring MLX's native library, the one whose library is in place first."""
    return sorted(filter(_is_installed, EXTRAS), key=_is_in_place, reverse=True)


def advice(packages: list[str]) -> str:
    """How to install MLX with the library of the first of `packages`, or with the default one."""
    extra = EXTRAS[packages[0]] if packages else "cpu"
    other = "for an NVIDIA GPU, mlx[cuda13] or mlx[cuda12]" if extra == "cpu" else "without a GPU, mlx[cpu]"
    return f"Run pip install --force-reinstall '{_requirement(extra)}'; {other}."


def _about_mlx(error: ImportError) -> InstallationError:
    if sys.platform not in ("darwin", "linux"):
        return InstallationError(f"mlx-llava runs on macOS and Linux, not on {sys.platform}", "On Windows, use WSL.")
    problem = f"MLX cannot be loaded: {error}"
    if sys.platform == "darwin":
        return InstallationError(problem, f"Run pip install --force-reinstall '{_requirement('')}' on Apple silicon.")
    return InstallationError(problem, advice(backend_packages()))


def _requirement(extra: str) -> str:
    """What this program requires of MLX, with another extra."""
    try:
        wanted = next(text for text in requires("mlx-llava") or () if text.startswith(("mlx<", "mlx>", "mlx[")))
    except (PackageNotFoundError, StopIteration):
        wanted = "mlx"
    versions = wanted.partition(";")[0].strip().removeprefix("mlx").rpartition("]")[2]
    return f"mlx[{extra}]{versions}" if extra else f"mlx{versions}"


def _is_installed(package: str) -> bool:
    try:
        return bool(distribution(package))
    except PackageNotFoundError:
        return False


def _is_in_place(package: str) -> bool:
    """Whether the library on the disk is this package's, by its size."""
    for file in distribution(package).files or ():
        path = Path(str(file.locate()))
        if file.as_posix() == LIBRARY and path.is_file():
            return file.size == path.stat().st_size
    return False
