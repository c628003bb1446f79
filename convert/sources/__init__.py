"""Reading a checkpoint: what it holds and what its tensors are called here."""
