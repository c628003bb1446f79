"""The frame around every command: standard streams, errors in two lines, exit codes and a clean end.

Exit codes:
    0    done
    1    any other error
    2    wrong usage
    3    no such model, checkpoint or adapters
    4    an image cannot be read
    5    does not fit into the context or the memory, or --max-tokens cut an answer of a given format
    6    some images or rows of a batch failed
    7    network
    130  interrupted by Ctrl-C, while there was something to keep; ended by the signal itself before
    141  the reader of a pipe closed it
"""

import io
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from mlx_llava.errors import LimitError, LlavaError
from mlx_llava.program.signals import end_at_once
from mlx_llava.program.text import LINE, clean_line, printable

DEBUG = "MLX_LLAVA_DEBUG"  # set to 1 to see the traceback of an error
QUIET = "MLX_LLAVA_QUIET"  # set to 1, as by --quiet, to keep progress and notes off stderr


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run a program and exit; an error prints two lines on stderr: what is wrong and what to do."""
    end_at_once()
    _open_streams()
    sys.exit(_finish(_attempt(main)))


def log(*lines: str) -> None:
    """Print notes on stderr, safe for a terminal, unless the user wants none."""
    for line in () if quiet() else lines:
        print(printable(line), file=sys.stderr, flush=True)


def quiet() -> bool:
    """Whether the user wants no progress and no notes."""
    return os.environ.get(QUIET) == "1"


def explain(error: Exception) -> LlavaError | None:
    """An error as shown to the user; None for an unexpected one, which keeps its traceback."""
    if isinstance(error, LlavaError):
        return error
    if isinstance(error, ImportError):
        from mlx_llava.program.installation import explain_import  # late: it reads the metadata of packages

        return explain_import(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return LlavaError(f"{where}{error.strerror or error}", "Check the path, its permissions and the free space.")
    # MLX reports file and memory errors as RuntimeError
    if "Unable to write" in str(error):
        return LlavaError(f"cannot write: {error}", "Check the free space.")
    if isinstance(error, MemoryError) or "alloc" in str(error).lower() or "memory" in str(error).lower():
        return LimitError("out of memory", "Close other programs, or convert the model with fewer bits.")
    return None


class _Closed(io.StringIO):
    """A standard output that was closed when the program started."""

    def write(self, text: str) -> int:
        raise LlavaError("standard output is closed", "Write to a file, a pipe or /dev/null.")


def _open_streams() -> None:
    """Let the standard streams accept any text, and replace closed ones; nothing can be written to stdout then."""
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115, PTH123
    sys.stdout = sys.stdout or _Closed()
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115, PTH123
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace"), (sys.stderr, "replace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def _attempt(main: Callable[[], int | None]) -> int:
    try:
        return main() or 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at exit
        return 141
    except (LlavaError, ImportError, OSError, MemoryError, RuntimeError) as error:
        explained = explain(error)
        if explained is None:
            raise
        _report(explained.problem, explained.advice)
        return explained.exit_code


def _report(problem: str, advice: str) -> None:
    if os.environ.get(DEBUG) == "1":
        traceback.print_exc()
    for line in (f"mlx-llava: error: {problem}", advice):
        print(clean_line(line, LINE), file=sys.stderr)


def _finish(code: int) -> int:
    """Release MLX's threads and flush stdout, where a full disk shows only now."""
    if "mlx.core" in sys.modules:
        sys.modules["mlx.core"].clear_streams()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code or 141
    except OSError as error:
        _report(f"standard output: {error.strerror}", "Write to a place with free space.")
        return code or 1
    return code
