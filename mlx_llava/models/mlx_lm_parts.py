"""The parts of mlx-lm that this program uses, imported without transformers. The only door to mlx-lm.

The `__init__` of `mlx_lm` and of `mlx_lm.tuner` imports transformers, which imports torch if it is installed: up to two
seconds and 215 MB. The modules below need neither. So both packages are imported here without their `__init__`, which
runs as soon as anything else of theirs is used, such as `mlx_lm.load` or `mlx_lm.generate`.
"""

import sys
import threading
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

DEFINED = ("__all__", "__version__")  # other names with two underscores are read by tools that look at every module

_lock = threading.RLock()  # reentrant: an `__init__` imports modules, which may read names of its package
_running: set[str] = set()  # packages whose `__init__` is running


class _LatePackage(ModuleType):
    """A package whose `__init__` runs when a name is read that is not there yet."""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__") or name in DEFINED:
            _run_init(self)
        if name in vars(self):
            return vars(self)[name]
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __setattr__(self, name: str, value: object) -> None:
        """Ignore submodules, which Python sets on import: `__init__` may define functions of the same name.

        Any other value, such as a patched function, is set after the `__init__`, which would overwrite it.
        """
        if isinstance(value, ModuleType):
            if self.__name__ not in _running and self.__class__ is _LatePackage:
                return
        elif not name.startswith("__"):
            _run_init(self)
        ModuleType.__setattr__(self, name, value)  # not super(): the class may have changed


def _run_init(package: ModuleType) -> None:
    """Run the `__init__` of a package, unless it has run or this thread is running it; again, if it has failed."""
    name, spec = package.__name__, package.__spec__
    with _lock:
        if package.__class__ is ModuleType or name in _running or spec is None or spec.loader is None:
            return
        _running.add(name)
        try:
            for full_name, module in list(sys.modules.items()):
                if full_name.rpartition(".")[0] == name:
                    setattr(package, full_name.removeprefix(f"{name}."), module)
            spec.loader.exec_module(package)
            package.__class__ = ModuleType
        finally:
            _running.remove(name)


def _postpone_init(name: str) -> None:
    """Import a package without its `__init__`, unless it is imported already."""
    if name in sys.modules or (spec := find_spec(name)) is None:
        return
    package = module_from_spec(spec)
    package.__class__ = _LatePackage
    sys.modules.setdefault(name, package)


_postpone_init("mlx_lm")
_postpone_init("mlx_lm.tuner")

from mlx_lm.models.base import scaled_dot_product_attention  # noqa: E402
from mlx_lm.models.cache import (  # noqa: E402
    BatchKVCache,
    KVCache,
    QuantizedKVCache,
    can_trim_prompt_cache,
    make_prompt_cache,
    trim_prompt_cache,
)
from mlx_lm.sample_utils import LogitsProcessor, Sampler, make_logits_processors, make_sampler  # noqa: E402
from mlx_lm.tuner.lora import LoRALinear  # noqa: E402

__all__ = [
    "BatchKVCache",
    "KVCache",
    "LoRALinear",
    "LogitsProcessor",
    "QuantizedKVCache",
    "Sampler",
    "can_trim_prompt_cache",
    "make_logits_processors",
    "make_prompt_cache",
    "make_sampler",
    "scaled_dot_product_attention",
    "trim_prompt_cache",
]
