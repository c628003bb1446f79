"""Missing and broken packages are two lines in every program."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from spine import EMBEDDED

from mlx_llava.program import installation
from mlx_llava.program.installation import backend_packages, explain_import

BROKEN = "raise ImportError('libmlx.so: cannot open it', name='core', path='/packages/mlx/core.so')"
MISSING = "raise ModuleNotFoundError(\"No module named 'mlx.core'\", name='mlx.core')"
ROWS = """[{"id": 1, "image": "one_shape.png", "conversations":
[{"from": "human", "value": "<image>\\nWhat?"}, {"from": "gpt", "value": "It."}]}]"""
DATA = ["--data", "rows.json", "--images", str(EMBEDDED / "examples")]
PROGRAMS = [
    ["ask", "Hi"],
    ["chat", "--plain", "-p", "Hi"],
    ["convert", "--hf-path", str(EMBEDDED), "--mlx-path", "new"],
    ["doctor"],
    ["doctor", "--json"],
    ["export", "--hf-path", "new"],
    ["fuse", "--adapter-path", "new", "--mlx-path", "new2"],
    ["look", *DATA],
    ["lora", *DATA, "--adapter-path", "new"],
    ["pretrain", *DATA, "--adapter-path", "new"],
    ["finetune", *DATA, "--mlx-path", "new"],
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: " ".join(program[:2]))
@pytest.mark.parametrize("core", [BROKEN, MISSING], ids=["broken", "missing"])
def test_every_program_says_that_mlx_cannot_be_loaded(program: list[str], core: str, tmp_path: Path) -> None:
    (tmp_path / "mlx").mkdir()
    (tmp_path / "mlx" / "core.py").write_text(core)
    (tmp_path / "rows.json").write_text(ROWS)
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    environment = {**os.environ, "PYTHONPATH": paths, "MLX_LLAVA_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "mlx_llava", *program]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 1, done.stderr
    assert "MLX cannot be loaded" in done.stderr
    assert "Traceback" not in done.stderr
    assert "mlx[" in done.stderr if sys.platform == "linux" else "mlx" in done.stderr


def test_another_package_is_named_and_our_own_bugs_keep_their_traceback() -> None:
    error = explain_import(ModuleNotFoundError("No module named 'textual'", name="textual"))
    assert error is not None
    assert "textual" in error.problem
    assert explain_import(ImportError("cannot import name 'x'", name="mlx_llava.config")) is None


def test_a_system_without_mlx_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    error = explain_import(ModuleNotFoundError("No module named 'mlx'", name="mlx"))
    assert error is not None
    assert "win32" in error.problem


@pytest.mark.parametrize("in_place", [0, 1])
def test_of_two_backends_the_one_whose_library_is_in_place_is_first(
    in_place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries = {"mlx-cuda-13": b"gpu and more", "mlx-cpu": b"cpu"}
    for package, library in libraries.items():
        info = tmp_path / f"{package.replace('-', '_')}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
        (info / "RECORD").write_text(f"{installation.LIBRARY},,{len(library)}\n")
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    (tmp_path / "mlx" / "lib").mkdir(parents=True)
    (tmp_path / installation.LIBRARY).write_bytes(list(libraries.values())[in_place])
    packages = list(libraries)
    assert backend_packages() == [packages[in_place], packages[1 - in_place]]
