"""`mlx-llava`: the commands and where they live. Imports a command only when it is called."""

import importlib
import sys

from mlx_llava import __version__
from mlx_llava.errors import UsageError
from mlx_llava.program.run import run

COMMANDS = {
    "ask": ("mlx_llava.ask", "answer a question about pictures, or a file of questions"),
    "chat": ("mlx_llava.tui.cli", "chat about pictures in the terminal"),
    "convert": ("mlx_llava.convert.cli", "turn a Hugging Face or original LLaVA checkpoint into MLX weights"),
    "pretrain": ("mlx_llava.pretrain", "train the projector on pictures and captions: stage 1"),
    "finetune": ("mlx_llava.finetune", "train Vicuna and the projector on conversations: stage 2"),
    "lora": ("mlx_llava.lora", "tune adapters and the projector on your own conversations"),
    "fuse": ("mlx_llava.fuse", "merge adapters into the model that they were trained on"),
    "export": ("mlx_llava.export", "write a converted model or its adapters for transformers and PEFT"),
    "look": ("mlx_llava.look", "show training data as the model sees it"),
    "doctor": ("mlx_llava.doctor", "show versions, device, memory, BLAS, caches and free disk"),
}

EXAMPLE = "mlx-llava ask photo.jpg 'What is this?'"


def main() -> None:
    """Run the command named first; show the commands when there is none."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in COMMANDS:
        sys.argv = [f"mlx-llava {name}", *arguments]
        run(lambda: importlib.import_module(COMMANDS[name][0]).main())
    run(lambda: _show(name))


def _show(name: str) -> None:
    if name in ("-V", "--version"):
        print(f"mlx-llava {__version__}")
    elif name in ("-h", "--help", "help"):
        print(help_text())
    else:
        raise UsageError(f"no command {name!r}", f"Use one of {', '.join(COMMANDS)}, or see mlx-llava --help.")


def help_text() -> str:
    """The commands, a line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: mlx-llava COMMAND [...]",
            "",
            "LLaVA on a Mac: convert a checkpoint, ask it about pictures.",
            "",
            *lines,
            "",
            "mlx-llava COMMAND --help tells more. With no model named, a small one that is part of the",
            f"package answers:  {EXAMPLE}",
        ]
    )
