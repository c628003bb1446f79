"""A worker process: it receives one function, then arguments, and returns the results in order.

Not `multiprocessing`: its spawned children import the program that started them, and MLX with it. A worker here
imports only what its function needs. It ends when its pipes close, so it never outlives its program.
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
    """A worker process, from the program's side."""

    def __init__(self) -> None:
        # BLAS and tokenizer threads do not help here; its own session keeps Ctrl-C with the program
        settings = {"MLX_LLAVA_FAST_BLAS": "0", "TOKENIZERS_PARALLELISM": "false"}
        environment = {**os.environ, **settings, "PYTHONPATH": os.pathsep.join(sys.path)}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(_COMMAND, stdin=pipe, stdout=pipe, env=environment, start_new_session=True)
        self._in: IO[bytes] = self._process.stdin  # pyright: ignore - pipes, so not None
        self._out: IO[bytes] = self._process.stdout  # pyright: ignore

    def send(self, pickled: bytes) -> None:
        """Send the function, or an argument, which waits in the pipe; the pipe holds 64 kB."""
        try:
            pickle.dump(pickled, self._in)  # pickled twice, so that one that fails to load leaves the stream intact
            self._in.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def result(self) -> Any:
        """The result of the oldest argument; raises what the function raised."""
        try:
            kind, *values = pickle.load(self._out)
        except (EOFError, pickle.UnpicklingError):
            raise self._ended() from None
        if kind == "result":
            return values[0]
        if kind == "error":
            error_type, problem, advice = values
            raise error_type(problem, advice)
        raise RuntimeError(f"a data worker failed:\n{values[0]}")

    def close(self) -> None:
        """Kill the process; it holds nothing that could be lost."""
        self._process.kill()
        self._process.wait()
        self._out.close()
        with suppress(BrokenPipeError):  # an unread argument
            self._in.close()

    def _ended(self) -> LlavaError:
        code = self._process.wait()
        advice = "If no error is printed above, memory ran out: use fewer workers."
        return LlavaError(f"a data worker ended with code {code}", advice)


def serve(arguments: BinaryIO, results: BinaryIO) -> None:
    """The worker's side: reply until there are no more arguments, or the program has closed its end."""
    with suppress(EOFError, BrokenPipeError):
        make = _function(pickle.load(arguments))
        while True:
            results.write(_reply(make, pickle.load(arguments)))
            results.flush()


def _function(pickled: bytes) -> Callable[[Any], Any]:
    """The function; if it fails to load, one that raises why, since the program reads only replies to arguments."""
    try:
        return pickle.loads(pickled)
    except Exception:  # of any kind: the program reports it
        failure = traceback.format_exc()

    def raises(_: Any) -> NoReturn:
        raise RuntimeError(failure)

    return raises


def _reply(make: Callable[[Any], Any], pickled: bytes) -> bytes:
    try:
        return pickle.dumps(("result", make(pickle.loads(pickled))), protocol=5)
    except LlavaError as error:  # does not pickle: it takes two arguments and passes one on
        return pickle.dumps(("error", type(error), error.problem, error.advice))
    except Exception:  # of any kind: the program reports it
        return pickle.dumps(("failed", traceback.format_exc()))


if __name__ == "__main__":
    private = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library's prints must not mix with results
    serve(sys.stdin.buffer, private)
    os._exit(0)  # no flush: the pipe may be broken
