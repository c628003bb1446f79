"""Hugging Face or original LLaVA weights to a folder of MLX shards."""
