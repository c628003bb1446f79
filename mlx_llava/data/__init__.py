"""Training data: files to records to examples to batches. Never imports MLX."""
