"""`python -m mlx_llava.tui`."""

from mlx_llava.tui.cli import main

main()
