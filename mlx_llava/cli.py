"""`mlx-llava COMMAND`: the commands and their modules, each imported only when it runs."""

import importlib
import sys
from difflib import get_close_matches
from typing import Any

from mlx_llava import __version__
from mlx_llava.errors import UsageError
from mlx_llava.program.run import run

COMMANDS = {
    "ask": ("mlx_llava.ask", "answer a question about images, one about each of many, or a file of questions"),
    "chat": ("mlx_llava.tui.cli", "chat about images in the terminal"),
    "convert": ("mlx_llava.convert.cli", "convert a LLaVA checkpoint from Hugging Face to MLX, optionally quantized"),
    "pretrain": ("mlx_llava.pretrain", "stage 1: train the projector on images and captions"),
    "finetune": ("mlx_llava.finetune", "stage 2: train the language model and the projector on conversations"),
    "lora": ("mlx_llava.lora", "train LoRA adapters and the projector on your own conversations"),
    "fuse": ("mlx_llava.fuse", "merge LoRA adapters into their base model"),
    "export": ("mlx_llava.export", "write a model for transformers, or its adapters for PEFT"),
    "look": ("mlx_llava.look", "preview training data as the model sees it"),
    "models": ("mlx_llava.library", "list the models on this machine, pull or remove one"),
    "doctor": ("mlx_llava.doctor", "show versions, device, memory, caches, and which models fit"),
}
ACTIONS = {"models": ("pull", "remove")}
PAGES = tuple(page for name in COMMANDS for page in (name, *(f"{name} {action}" for action in ACTIONS.get(name, ()))))

HELP = """\
usage: mlx-llava COMMAND [OPTIONS]

Run, convert and train LLaVA vision-language models on a Mac.

commands:
{commands}

options:
  -h, --help                  Show this help; `mlx-llava help COMMAND` shows a command's.
  -V, --version               Show the version.
  --print-completion SHELL    Print the completion script for bash, zsh, fish or tcsh.

Start here; without --model, a small bundled model answers:
  mlx-llava ask photo.jpg 'What is this?'"""


def main() -> None:
    """Run the command named by the first argument; without one, print the help."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name == "help" and arguments:
        name, arguments = arguments[0], [*arguments[1:], "--help"]
    if name in COMMANDS:
        sys.argv = [f"mlx-llava {name}", *arguments]
        run(lambda: importlib.import_module(COMMANDS[name][0]).main())
    run(lambda: _show(name, arguments))


def options_of(name: str) -> type[Any]:
    """The dataclass of a command's options: AskOptions for `ask`, PullOptions for `models pull`."""
    command, *action = name.split()
    return getattr(importlib.import_module(COMMANDS[command][0]), f"{(action or [command])[0].capitalize()}Options")


def _show(name: str, arguments: list[str]) -> None:
    if name in ("-V", "--version"):
        print(f"mlx-llava {__version__}")
    elif name in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS))
        lines = (f"  {name:{width}}  {summary}" for name, (_, summary) in COMMANDS.items())
        print(HELP.format(commands="\n".join(lines)))
    elif name == "--print-completion":
        from mlx_llava.program.completion import completion

        print(completion({name: options_of(name) for name in PAGES}, arguments[0] if arguments else ""))
    else:
        near = get_close_matches(name, COMMANDS, 1)
        advice = f"Did you mean {near[0]}?" if near else f"Use one of {', '.join(COMMANDS)}."
        problem = f"{name}: no such option" if name.startswith("-") else f"no command {name!r}"
        raise UsageError(problem, f"{advice} See mlx-llava --help.")
