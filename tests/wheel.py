"""Check a wheel: it holds every file of the tree, and in a fresh environment it answers.

python tests/wheel.py dist/mlx_llava-*.whl
"""

import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

TOP = Path(__file__).parents[1]
ROOT = TOP / "mlx_llava"
QUESTION = (ROOT / "embedded" / "tiny-llava-hf" / "examples" / "two_shapes_wide.png", "What color is the square?")
ANSWER = "blue"


def main() -> None:
    """Check the wheel in argv; exit with 1 if a check fails."""
    wheel = Path(sys.argv[1]).resolve()
    complete = is_complete(wheel)
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(not (complete and all(answers(wheel, Path(folder)))))


def is_complete(wheel: Path) -> bool:
    """Compare the wheel with the tree, including the linked folders and the bundled model."""
    names = zipfile.ZipFile(wheel).namelist()
    in_wheel = {name for name in names if name.startswith("mlx_llava/") and not name.endswith(".so")}
    folders = [ROOT, *(folder for folder in ROOT.iterdir() if folder.is_dir())]  # rglob does not follow links
    files = {file for folder in folders for file in folder.rglob("*") if file.is_file()}
    compiled = {".c", ".h", ".so", ".pyc"}  # the extension is built where a compiler is
    tree = {str(file.relative_to(TOP)) for file in files if file.suffix not in compiled}
    for name in sorted(tree ^ in_wheel):
        print(f"{'missing from' if name in tree else 'only in'} the wheel: {name}")
    print(f"{len(in_wheel)} files in the wheel, {len(tree)} in the tree")
    return tree == in_wheel


def answers(wheel: Path, folder: Path) -> list[bool]:
    """Install the wheel into a new environment without extras, and run it elsewhere with an empty home."""
    environment = folder / "environment"
    venv.create(environment, symlinks=True)
    home = folder / "home"
    home.mkdir()
    constraints = ["--constraint", str(TOP / "constraints.txt")]

    def pip(*arguments: str) -> None:
        command = [sys.executable, "-m", "pip", "--quiet", "--python", str(environment / "bin" / "python"), *arguments]
        outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        subprocess.run(command, cwd=home, env=outside, check=True)

    def check(claim: str, code: int, *words: str, arguments: tuple[str, ...]) -> bool:
        command = [str(environment / "bin" / "mlx-llava"), *arguments]
        clean = {"HOME": str(home), "PATH": os.defpath}
        done = subprocess.run(command, cwd=home, env=clean, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        text = done.stdout + done.stderr
        holds = done.returncode == code and all(word in text for word in words) and "Traceback" not in text
        print(f"{'ok' if holds else 'FAILED'}: {claim}" + ("" if holds else f"\nexit code {done.returncode}\n{text}"))
        return holds

    pip("install", "--no-compile", *constraints, str(wheel))

    ask = ("ask", *map(str, QUESTION))
    compiled = sys.platform == "linux" and shutil.which("cc")
    facts = ("device ", "NumPy's OpenBLAS") if compiled else ("device ",)
    checks = [
        check("the command says its version", 0, "mlx-llava 0", arguments=("--version",)),
        check("the bundled model answers", 0, ANSWER, arguments=ask),
        check("doctor finds MLX and, if there was a compiler, the C extension", 0, *facts, arguments=("doctor",)),
    ]
    if sys.platform == "linux":
        pip("uninstall", "--yes", "mlx-cpu")
        broken = "MLX cannot be loaded: libmlx.so", "pip install --force-reinstall 'mlx[cpu]"
        checks += [
            check("without MLX's library an error names the extra", 1, *broken, arguments=ask),
            check("doctor works without it", 1, *broken, "numpy ", "hub cache", arguments=("doctor",)),
        ]
    return checks


if __name__ == "__main__":
    main()
