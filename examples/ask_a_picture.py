"""Ask the bundled model about one of its example images: `python examples/ask_a_picture.py`."""

from mlx_llava.checkpoint.folder import load
from mlx_llava.embedded import IMAGE, converted_folder
from mlx_llava.images.image import Image
from mlx_llava.inference.chat import Chat

checkpoint = load(converted_folder())
chat = Chat(checkpoint)
image = Image.open(IMAGE)

for piece in chat.ask("Describe the image.", [image]):
    print(piece.text, end="", flush=True)
print()

for piece in chat.ask("How many shapes are there?"):  # the image and the first answer are in the cache
    print(piece.text, end="", flush=True)
print(f"\n{chat.answer.prefilled_tokens} of {len(chat.answer.prompt_ids)} tokens were new")
