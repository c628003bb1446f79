"""llama.cpp's side, through llama-cpp-python's bindings of the C API: only the text model, from GGUF.

Its KV cache is float16, its default.
"""

import ctypes
import os
from typing import Any

import llama_cpp as c  # pyright: ignore[reportMissingImports]
import numpy as np
from sides.timing import LENGTH, between, prefilled, stamps, typical

THREADS = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)


@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
def _silent(level: int, text: bytes, data: object) -> None:
    """Drop a line of the log."""


c.llama_log_set(_silent, None)


class Model:
    """The model, and a context for `batch` answers."""

    def __init__(self, file: str, batch: int = 1, load_mode: int = c.LLAMA_LOAD_MODE_AUTO) -> None:
        options = c.llama_model_default_params()
        options.load_mode = load_mode
        self.model = c.llama_model_load_from_file(file.encode(), options)
        settings = c.llama_context_default_params()
        settings.n_ctx, settings.n_seq_max = 1024 * batch, batch
        settings.n_threads = settings.n_threads_batch = THREADS
        self.context = c.llama_init_from_model(self.model, settings)
        self.memory = c.llama_get_memory(self.context)
        self.vocab = c.llama_vocab_n_tokens(c.llama_model_get_vocab(self.model))
        self.batch = c.llama_batch_init(LENGTH, 0, 1)

    def close(self) -> None:
        """Free everything."""
        c.llama_batch_free(self.batch)
        c.llama_free(self.context)
        c.llama_model_free(self.model)

    def prefill(self, rows: int) -> None:
        """Fill the cache of the first answer with `rows` positions, up to the logits of the last."""
        c.llama_memory_clear(self.memory, True)
        ids = np.random.default_rng(0).integers(3, 500, rows).tolist()
        self._run([(token, n, 0, n == rows - 1) for n, token in enumerate(ids)])
        c.llama_synchronize(self.context)

    def share(self, batch: int) -> None:
        """Copy the cache of the first answer to those of the others."""
        for sequence in range(1, batch):
            c.llama_memory_seq_cp(self.memory, 0, sequence, -1, -1)

    def step(self, tokens: list[int], position: int) -> list[int]:
        """The next token of each answer."""
        self._run([(token, position, n, True) for n, token in enumerate(tokens)])
        rows = (c.llama_get_logits_ith(self.context, n) for n in range(len(tokens)))
        return [int(np.ctypeslib.as_array(row, (self.vocab,)).argmax()) for row in rows]

    def _run(self, entries: list[tuple[int, int, int, bool]]) -> None:
        """Decode tokens, each with its position, its sequence, and whether its logits are needed."""
        self.batch.n_tokens = len(entries)
        for n, (token, position, sequence, logits) in enumerate(entries):
            self.batch.token[n], self.batch.pos[n], self.batch.logits[n] = token, position, logits
            self.batch.n_seq_id[n], self.batch.seq_id[n][0] = 1, sequence
        if c.llama_decode(self.context, self.batch):
            raise RuntimeError("llama_decode failed")


def backend() -> dict[str, Any]:
    """The CPU features that this build uses."""
    text = c.llama_print_system_info().decode().removeprefix("CPU : ")
    return {"seconds": 0, "backend": ", ".join(word.split("=")[0].strip() for word in text.split("|") if "=" in word)}


def loading(folder: str) -> dict[str, Any]:
    """Seconds to read the weights into memory, instead of mapping the file."""
    return {"seconds": typical(lambda: Model(folder, load_mode=c.LLAMA_LOAD_MODE_NONE), 1)}


def prefill(folder: str, rows: int) -> dict[str, Any]:
    """Seconds to prefill `rows` positions, up to the logits of the last."""
    return {"seconds": prefilled(Model(folder).prefill, rows)}


def decode(folder: str, batches: list[tuple[int, int]]) -> dict[str, Any]:
    """Seconds per decoding step after a long prompt, for each batch size and number of tokens."""
    return {"steps": [_step(folder, batch, tokens) for batch, tokens in batches]}


def _step(folder: str, batch: int, count: int) -> float:
    model = Model(folder, batch)
    model.prefill(LENGTH)
    model.share(batch)

    def steps() -> Any:
        tokens = [5] * batch
        for position in range(LENGTH, LENGTH + count):
            tokens = model.step(tokens, position)
            yield tokens

    seconds = between(stamps(steps(), count))
    model.close()
    return seconds
