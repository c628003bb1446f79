"""What transformers answers with the embedded model, written beside its example pictures.

`python tests/parity/record_embedded.py` writes questions.jsonl.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

sys.path.insert(0, str(Path(__file__).parents[1]))

from spine import EMBEDDED

EXAMPLES = EMBEDDED / "examples"
MAX_TOKENS = 100
# What is asked of each picture: kind, question, and the words of the answer that make it right.
ASKED = {
    "one_shape.png": (
        ("color", "What color is the circle?", "red"),
        ("shape", "What shape is the red one?", "circle"),
        ("count", "How many things are there?", "one"),
        ("existence", "Is there a red circle?", "yes"),
        ("existence", "Is there a blue square?", "no"),
        ("position", "Where is the circle?", "on the left"),
        ("size", "Is the red circle small or large?", "large"),
        ("description", "Describe the picture.", "red circle"),
    ),
    "three_shapes.png": (
        ("color", "What color is the circle?", "purple"),
        ("color", "What color is the square?", "black"),
        ("shape", "What shape is the green one?", "cross"),
        ("count", "How many things are there?", "three"),
        ("count", "How many squares are there?", "one"),
        ("existence", "Is there a green cross?", "yes"),
        ("existence", "Is there a star?", "no"),
        ("position", "Where is the black square?", "at the top right"),
        ("relation", "Is the green cross to the left of the black square?", "yes"),
        ("description", "What is in the picture?", "purple circle"),
    ),
    "two_shapes_wide.png": (
        ("color", "What color is the square?", "blue"),
        ("color", "Which color does the triangle have?", "yellow"),
        ("shape", "What is yellow?", "triangle"),
        ("count", "How many things are there?", "two"),
        ("existence", "Is there anything red?", "no"),
        ("relation", "Is the yellow triangle to the right of the blue square?", "yes"),
        ("description", "What do you see?", "yellow triangle"),
    ),
    "unseen_pair_tall.png": (
        ("color", "What color is the triangle?", "blue"),
        ("shape", "What shape is the blue one?", "triangle"),
        ("existence", "Is there a blue triangle?", "yes"),
        ("count", "How many things are there?", "two"),
        ("description", "Describe the picture.", "blue triangle"),
    ),
}
LONGER = (
    ("one_shape.png", ("What color is the circle?", "How many circles are there?", "Is there a green star?")),
    ("three_shapes.png", ("Describe the picture.", "What color is the circle?", "Where is the green cross?")),
    ("two_shapes_wide.png", ("How many things are there?", "What color is the triangle?", "Is there a square?")),
)


def main() -> None:
    """Ask everything, and write the answers beside the pictures."""
    processor: Any = AutoProcessor.from_pretrained(EMBEDDED)
    model = LlavaForConditionalGeneration.from_pretrained(EMBEDDED, dtype=torch.float32).eval()
    conversations = [
        (file_name, kind, ((asked, truth),)) for file_name, rows in ASKED.items() for kind, asked, truth in rows
    ]
    conversations += [
        (file_name, "conversation", tuple((asked, None) for asked in turns)) for file_name, turns in LONGER
    ]
    with (EXAMPLES / "questions.jsonl").open("w", encoding="utf-8") as file:
        for file_name, kind, turns in conversations:
            row = {"image": file_name, "kind": kind, "turns": answered(processor, model, file_name, turns)}
            file.write(json.dumps(row) + "\n")


def answered(
    processor: Any, model: Any, file_name: str, turns: tuple[tuple[str, str | None], ...]
) -> list[dict[str, Any]]:
    """The turns of a conversation with their greedy answers."""
    said, rows = [], []
    for number, (question, truth) in enumerate(turns):
        image = [] if number else [{"type": "image"}]
        said.append({"role": "user", "content": [*image, {"type": "text", "text": question}]})
        text = processor.apply_chat_template(said, add_generation_prompt=True)
        given = processor(images=Image.open(EXAMPLES / file_name).convert("RGB"), text=text, return_tensors="pt")
        prompt = given["input_ids"].shape[1]
        with torch.no_grad():
            ids = model.generate(**given, do_sample=False, max_new_tokens=MAX_TOKENS)[0, prompt:].tolist()
        answer = processor.decode(ids, skip_special_tokens=True)
        said.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        row = {"question": question, "answer": answer, "output_ids": ids, "prompt_tokens": prompt}
        rows.append(row if truth is None else {**row, "truth": truth})
    return rows


if __name__ == "__main__":
    main()
