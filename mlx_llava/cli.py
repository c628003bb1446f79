"""`mlx-llava COMMAND`: the commands and their modules, each imported only when it runs."""

import importlib
import sys

from mlx_llava import __version__
from mlx_llava.errors import UsageError
from mlx_llava.program.run import run

COMMANDS = {
    "ask": ("mlx_llava.ask", "answer one question about images, or a file of questions"),
    "chat": ("mlx_llava.chat", "chat about images in the terminal"),
    "convert": ("mlx_llava.convert.cli", "convert a LLaVA checkpoint from Hugging Face to MLX, optionally quantized"),
    "pretrain": ("mlx_llava.pretrain", "stage 1: train the projector on images and captions"),
    "finetune": ("mlx_llava.finetune", "stage 2: train the language model and the projector on conversations"),
    "lora": ("mlx_llava.lora", "train LoRA adapters and the projector on your own conversations"),
    "fuse": ("mlx_llava.fuse", "merge LoRA adapters into their base model"),
    "export": ("mlx_llava.export", "write a model for transformers, or its adapters for PEFT"),
    "look": ("mlx_llava.look", "preview training data as the model sees it"),
    "doctor": ("mlx_llava.doctor", "show versions, device, memory, BLAS, caches and free disk space"),
}

HELP = """\
usage: mlx-llava COMMAND [OPTIONS]

Run, convert and train LLaVA vision-language models on a Mac.

commands:
{commands}

Start here; without --model, a small bundled model answers:
  mlx-llava ask photo.jpg 'What is this?'

See mlx-llava COMMAND --help for the options of a command."""


def main() -> None:
    """Run the command named by the first argument; without one, print the help."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in COMMANDS:
        sys.argv = [f"mlx-llava {name}", *arguments]
        run(lambda: importlib.import_module(COMMANDS[name][0]).main())
    run(lambda: _show(name))


def _show(name: str) -> None:
    if name in ("-V", "--version"):
        print(f"mlx-llava {__version__}")
    elif name in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS))
        lines = (f"  {command:{width}}  {summary}" for command, (_, summary) in COMMANDS.items())
        print(HELP.format(commands="\n".join(lines)))
    else:
        raise UsageError(f"no command {name!r}", f"Use one of {', '.join(COMMANDS)}, or see mlx-llava --help.")
