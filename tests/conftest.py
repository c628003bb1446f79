"""Fixtures: the embedded model converted once, and small LLaVAs of every form."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"  # no test needs a network
os.environ["MLX_ENABLE_TF32"] = "0"  # exact means float32, on a GPU too

from spine import CASES, EMBEDDED, write_checkpoint

from mlx_llava.checkpoint.folder import Checkpoint, load
from mlx_llava.convert.job import prepare, write
from mlx_llava.convert.options import ConvertOptions

settings.register_profile("ours", deadline=None)  # speed is shown in benchmarks/
settings.load_profile("ours")

# a shell's background jobs ignore Ctrl-C, and so would the programs that tests start
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Convert a checkpoint folder to float32, once."""
    done: dict[Path, Path] = {}

    def convert(source: Path) -> Path:
        if source not in done:
            done[source] = tmp_path_factory.mktemp("converted") / "model"
            options = ConvertOptions(hf_path=str(source), mlx_path=done[source], dtype="float32")
            write(prepare(options))
        return done[source]

    return convert


@pytest.fixture(scope="session")
def embedded(converted: Callable[[Path], Path]) -> Checkpoint:
    """The model of the package, in float32."""
    return load(converted(EMBEDDED))


@pytest.fixture(scope="session", params=CASES)
def small(
    request: pytest.FixtureRequest, converted: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Checkpoint]:
    """A small LLaVA of each form, from a folder in the released layout."""
    source = tmp_path_factory.mktemp("released") / "model"
    write_checkpoint(CASES[request.param], source)
    return request.param, load(converted(source))


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home for caches that the tests share, so that the embedded model is converted once."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session", autouse=True)
def _own_home(home: Path) -> Iterator[None]:
    """Keeps tests from writing into the user's folders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLX_LLAVA_HOME", str(home))
        yield
