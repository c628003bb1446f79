"""`ask` in this process, on the embedded model in float32."""

from collections.abc import Callable
from pathlib import Path

import pytest
from asking import Run
from spine import EMBEDDED

from mlx_llava.ask import AskOptions, ask
from mlx_llava.program.options import parse


@pytest.fixture
def run(converted: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]) -> Run:
    """Ask in this process: exit code, stdout, stderr."""
    model = str(converted(EMBEDDED))

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        code = ask(parse(AskOptions, "mlx-llava ask", ["--model", model, *map(str, arguments)]))
        out, err = capsys.readouterr()
        return code, out, err

    return call
