"""`python -m mlx_llava`."""

from mlx_llava.cli import main

main()
