"""Logits of one batch of two prompts, one with an image and one without: `python examples/logits_of_a_batch.py`."""

from mlx_llava import Image, load
from mlx_llava.embedded import IMAGE
from mlx_llava.inference.prompter import Prompter
from mlx_llava.inputs import collate
from mlx_llava.prompts.templates import Turn

checkpoint = load()
prompter = Prompter(checkpoint)
image = Image.open(IMAGE, decoding="training")

rows = [
    prompter.encode([Turn("What color is the square?", num_images=1)], [image]),
    prompter.encode([Turn("How many shapes are there?")], []),
]
batch = collate(rows)  # padded on the right
logits = checkpoint.model(batch)
for row, length in zip(logits, batch.lengths.tolist(), strict=True):
    next_token = int(row[length - 1].argmax().item())  # pyright: ignore[reportArgumentType]
    print(length, "tokens, next:", repr(checkpoint.tokenizer.piece(next_token)))
