"""PyTorch's .bin files, read without torch and without running anything."""
