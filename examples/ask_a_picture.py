"""Ask the bundled model about one of its example images: `python examples/ask_a_picture.py`."""

from mlx_llava import Chat, load
from mlx_llava.embedded import IMAGE

chat = Chat(load())

for piece in chat.ask("Describe the image.", [IMAGE]):
    print(piece.text, end="", flush=True)
print()

for piece in chat.ask("How many shapes are there?"):  # the image and the first answer are in the cache
    print(piece.text, end="", flush=True)
print(f"\n{chat.answer.prefilled_tokens} of {len(chat.answer.prompt_ids)} tokens were new")
