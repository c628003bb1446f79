"""mlx-lm's parts are imported without transformers, and the whole of mlx-lm stays as usable as ever."""

import subprocess
import sys

import pytest

OURS = "import mlx_llava.models.mlx_lm_parts as parts"
LIGHT = "import sys; assert {'torch', 'transformers'}.isdisjoint(sys.modules)"


def run(*lines: str) -> None:
    """Run lines of Python in a process that has imported nothing."""
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)


def test_the_parts_need_neither_transformers_nor_torch() -> None:
    looks = "for module in sys.modules.values(): getattr(module, '__warningregistry__', None)"  # as unittest does
    run(OURS, LIGHT, "import mlx_lm, mlx_lm.tuner", looks, LIGHT)


SAME = (
    "from mlx_lm.models.cache import KVCache; assert isinstance(parts.KVCache(), KVCache)",
    "from mlx_lm.tuner.lora import LoRALinear; assert parts.LoRALinear is LoRALinear",
)
USES = (
    (
        "import mlx_lm",
        "mlx_lm.load, mlx_lm.__version__, mlx_lm.utils.load_model; assert not hasattr(mlx_lm, 'nothing')",
    ),
    ("import mlx_lm.utils", "mlx_lm.utils.load_model", "import mlx_lm.server"),
    ("from mlx_lm.generate import generate_step", "import mlx_lm", "assert callable(mlx_lm.generate)"),
    (
        "from mlx_lm import generate, load",
        "assert load.__module__ == 'mlx_lm.utils'",
        "from mlx_lm import *",
        "generate",
    ),
    ("import mlx_lm.tuner", "mlx_lm.tuner.TrainingArgs, mlx_lm.tuner.trainer.train, mlx_lm.tuner.lora.LoRALinear"),
)


@pytest.mark.parametrize("uses", USES, ids=lambda uses: uses[0])
def test_the_whole_of_mlx_lm_can_be_imported_afterwards(uses: tuple[str, ...]) -> None:
    run(OURS, *uses, *SAME)


def test_the_whole_of_mlx_lm_can_be_imported_before() -> None:
    run("import mlx_lm, mlx_lm.tuner", OURS, "mlx_lm.load, mlx_lm.tuner.train", *SAME)


def test_a_name_that_is_set_stays_set() -> None:
    run(OURS, "import mlx_lm", "mlx_lm.load = print", "assert mlx_lm.convert and mlx_lm.load is print")


def test_threads_wait_for_the_one_that_imports_the_rest() -> None:
    run(
        "from concurrent.futures import ThreadPoolExecutor",
        "from threading import Barrier",
        OURS,
        "import mlx_lm",
        "barrier = Barrier(8)",
        "def read(name):",
        "    barrier.wait()",
        "    return getattr(mlx_lm, name)",
        "with ThreadPoolExecutor(8) as threads:",
        "    assert all(threads.map(read, ['load', 'generate', 'convert', 'batch_generate'] * 2))",
    )


def test_an_import_that_failed_is_tried_again() -> None:
    run(
        OURS,
        "import sys, mlx_lm",
        "sys.modules['transformers'] = None",
        "for _ in range(2):",
        "    try:",
        "        mlx_lm.load",
        "    except ImportError as error:",
        "        assert error.name == 'transformers', error.name",
        "    else:",
        "        raise AssertionError",
        "del sys.modules['transformers']",
        "mlx_lm.load",
    )
