"""Folders in other formats than the converter's, and converted folders made from others.

- `fuse`, `rewrite`: a converted folder with adapters merged, or with trained weights.
- `export`, `llava_hf`, `image_token`, `chat_template`: the llava-hf folder that transformers reads.
- `peft`: the adapter folder that PEFT reads.
"""
