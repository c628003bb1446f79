"""A process that makes things: one function goes in, then arguments, and results come out in their order.

Not `multiprocessing`: its spawned children import the program that started them, and MLX with it. A worker here
imports what its function needs and nothing else. It ends when its pipes do, so none outlives its program, however
that ended.
"""

import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any, BinaryIO, NoReturn

from mlx_llava.errors import LlavaError

_COMMAND = [sys.executable, "-P", "-m", "mlx_llava.data.worker"]


class Worker:
    """The near end of the pipes."""

    def __init__(self) -> None:
        # neither BLAS nor threads of the tokenizer help here; a process group of its own keeps Ctrl-C with the program
        quiet = {"MLX_LLAVA_FAST_BLAS": "0", "TOKENIZERS_PARALLELISM": "false"}
        environment = {**os.environ, **quiet, "PYTHONPATH": os.pathsep.join(sys.path)}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(_COMMAND, stdin=pipe, stdout=pipe, env=environment, start_new_session=True)
        self._in, self._out = _there(self._process.stdin), _there(self._process.stdout)

    def send(self, pickled: bytes) -> None:
        """Hand over the function, or an argument, which waits in the pipe: 64 kB find room there."""
        try:
            pickle.dump(pickled, self._in)  # twice, so that what cannot be read leaves the next one whole
            self._in.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def result(self) -> Any:
        """What the function made of the oldest argument; raises what it raised."""
        try:
            kind, *what = pickle.load(self._out)
        except (EOFError, pickle.UnpicklingError):
            raise self._ended() from None
        if kind == "made":
            return what[0]
        if kind == "refused":
            error_type, problem, advice = what
            raise error_type(problem, advice)
        raise RuntimeError(f"a data worker failed:\n{what[0]}")

    def close(self) -> None:
        """End the process, whatever it is doing: it holds nothing that could be lost."""
        self._process.kill()
        self._process.wait()
        self._out.close()
        with suppress(BrokenPipeError):  # an argument that was never read
            self._in.close()

    def _ended(self) -> LlavaError:
        code = self._process.wait()
        advice = "If nothing is said above, memory ran out: use fewer workers."
        return LlavaError(f"a data worker ended with code {code}", advice)


def serve(arguments: BinaryIO, results: BinaryIO) -> None:
    """The far end of the pipes: answer until no more arguments come, or nobody listens."""
    with suppress(EOFError, BrokenPipeError):
        make = _function(pickle.load(arguments))
        while True:
            results.write(_reply(make, pickle.load(arguments)))
            results.flush()


def _function(pickled: bytes) -> Callable[[Any], Any]:
    """The function; one that tells why, where it cannot be had: somebody listens at the first argument."""
    try:
        return pickle.loads(pickled)
    except Exception:  # whatever it is, the one who waits is to know
        trouble = traceback.format_exc()

    def raises(_: Any) -> NoReturn:
        raise RuntimeError(trouble)

    return raises


def _reply(make: Callable[[Any], Any], pickled: bytes) -> bytes:
    """What came of an argument, ready for the pipe."""
    try:
        return pickle.dumps(("made", make(pickle.loads(pickled))), protocol=5)
    except LlavaError as error:  # which does not pickle, as it is made from two lines and holds one
        return pickle.dumps(("refused", type(error), error.problem, error.advice))
    except Exception:  # whatever it is, the one who waits is to know
        return pickle.dumps(("failed", traceback.format_exc()))


def _there(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("a worker without a pipe")
    return pipe


if __name__ == "__main__":
    private = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not stand between results
    serve(sys.stdin.buffer, private)
    os._exit(0)  # the pipe may be broken: nothing to flush
