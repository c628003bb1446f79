"""What every program does around its work: errors in two lines, exit codes, and a clean end.

0 done, 1 failed, 2 usage, 3 no such model, 4 picture, 5 does not fit, 6 some rows of a batch failed, 7 network,
130 Ctrl-C, 141 the reader of a pipe is gone.
"""

import io
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from mlx_llava.errors import LimitError, LlavaError

KEPT = "\n\t\u200c\u200d"  # the last two join letters, and emoji
DEBUG = "MLX_LLAVA_DEBUG"  # set to 1 to see the traceback of an error


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run a program and exit; errors go to stderr as one line what and one line what to do."""
    _open_streams()
    sys.exit(_finish(_attempt(main)))


def _open_streams() -> None:
    """Make standard streams bear any text, and replace closed ones."""
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115, PTH123
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115, PTH123
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115, PTH123
    for stream, how in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace"), (sys.stderr, "replace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=how)


def _attempt(main: Callable[[], int | None]) -> int:
    try:
        return main() or 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains on its way out
        return 141
    except (LlavaError, OSError, MemoryError, RuntimeError) as error:
        explained = explain(error)
        if explained is None:
            raise
        _say(explained.problem, explained.advice)
        return explained.exit_code


def explain(error: Exception) -> LlavaError | None:
    """An error as its reader should see it; None for one that nobody foresaw."""
    if isinstance(error, LlavaError):
        return error
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return LlavaError(f"{where}{error.strerror or error}", "Check the path, its permissions and the free space.")
    # MLX tells of files and of memory by a RuntimeError
    if "Unable to write" in str(error):
        return LlavaError(f"cannot write: {error}", "Check the free space.")
    if isinstance(error, MemoryError) or "alloc" in str(error).lower() or "memory" in str(error).lower():
        return LimitError("out of memory", "Close other programs, or convert the model with fewer bits.")
    return None


def _say(problem: str, advice: str) -> None:
    if os.environ.get(DEBUG) == "1":
        traceback.print_exc()
    for line in (f"mlx-llava: error: {problem}", advice):
        print(printable(line.replace("\n", "\r")), file=sys.stderr)  # a name may hold a line end


def _finish(code: int) -> int:
    """Give MLX's threads back, and see that what was written to stdout has arrived."""
    if "mlx.core" in sys.modules:
        sys.modules["mlx.core"].clear_streams()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code or 141
    except OSError as error:
        _say(f"standard output: {error.strerror}", "Write to a place with free space.")
        return code or 1
    return code


def printable(text: str) -> str:
    """Text without control characters that a terminal would obey; each becomes a visible symbol."""
    return "".join(c if c in KEPT or c.isprintable() else _symbol(c) for c in text)


def _symbol(character: str) -> str:
    code = ord(character)
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else "\N{REPLACEMENT CHARACTER}"
