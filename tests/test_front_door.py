"""What users import from the top: the README's names, and those of version 0.1."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest
from spine import EMBEDDED, answer_of

import mlx_llava
from mlx_llava.checkpoint.folder import Checkpoint

PHOTO = EMBEDDED / "examples" / "two_shapes_wide.png"
SQUARE = "What color is the square?"
ROOT = Path(__file__).parents[1]


def snippets(page: str) -> str:
    """The Python code of a page, all blocks in order."""
    return "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL))


README_OF_0_1 = """
from pathlib import Path

from mlx_llava.chat import Chat, Picture
from mlx_llava.checkpoint import load

checkpoint = load(Path("llava-1.5-7b-4bit"))
chat = Chat(checkpoint)
picture = Picture.open(Path("photo.jpg"), "photo.jpg", checkpoint.config.picture, "seen")
for piece in chat.ask("What is this?", [picture]):
    print(piece.text, end="")
for piece in chat.ask("And its colour?"):  # computes the new tokens only
    print(piece.text, end="")
"""


@pytest.mark.parametrize("snippet", [snippets("README.md"), snippets("docs/python.md"), README_OF_0_1])
def test_the_code_of_the_documentation_runs(
    snippet: str,
    converted: Callable[[Path], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("llava-1.5-7b-4bit").symlink_to(converted(EMBEDDED))
    shutil.copy(PHOTO, "photo.jpg")
    names: dict[str, object] = {}
    exec(snippet, names)
    chat = names["chat"]
    assert isinstance(chat, mlx_llava.Chat)
    output = re.sub(r"stop [\d.]+\n", "", capsys.readouterr().out)  # the finish and speed that docs/python.md prints
    assert output == "".join(turn.answer or "" for turn in chat.turns)
    assert (len(chat.images), chat.answer.finish) == (1, "stop")
    assert len(chat.turns) >= 2
    assert chat.answer.prefilled_tokens < 20 < chat.answer.image_tokens


SOURCES: dict[str, Callable[[], object]] = {
    "str": lambda: str(PHOTO),
    "Path": lambda: PHOTO,
    "bytes": PHOTO.read_bytes,
    "Pillow": lambda: PIL.Image.open(PHOTO),
    "Image": lambda: mlx_llava.Image.open(PHOTO),
}


@pytest.mark.parametrize("source", SOURCES)
def test_an_image_may_be_any_of_these(embedded: Checkpoint, source: str) -> None:
    chat = mlx_llava.Chat(embedded)
    pieces = chat.ask(SQUARE, [SOURCES[source]()])  # pyright: ignore[reportArgumentType]
    assert "".join(piece.text for piece in pieces) == answer_of(PHOTO.name, SQUARE)["answer"]


def test_load_without_a_name_loads_the_bundled_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_LLAVA_HOME", str(tmp_path))
    model = mlx_llava.load()
    assert mlx_llava.load(model.folder).config == mlx_llava.load(str(model.folder)).config == model.config


def test_an_unknown_name_is_an_attribute_error() -> None:
    for module in ("mlx_llava", "mlx_llava.chat"):
        code = f"import {module} as m; m.nothing"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert f"AttributeError: module '{module}' has no attribute 'nothing'" in done.stderr


def test_chat_is_a_command_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mlx_llava.chat", "--help"], capture_output=True, text=True, check=True
    )
    assert "mlx-llava chat" in done.stdout
