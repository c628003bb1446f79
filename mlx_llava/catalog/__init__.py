"""Models to choose from: published ones that are recommended, and those on this machine. Never imports MLX."""
