"""PyTorch's .bin files, read without torch and without running anything in them.

Read `allowed_calls` first (the few names a pickle may use, and what they stand for), then `pickles` (a machine for the
few operations torch.save needs), then `archive` (the two containers, and the tensors in them).
"""
