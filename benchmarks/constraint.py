"""Cost of a constraint: microseconds per token to find the allowed tokens, to follow the answer and to mask logits.

python benchmarks/constraint.py
"""

import json
import random
import tempfile
import time
from pathlib import Path
from statistics import median

import mlx.core as mx
import numpy as np

from mlx_llava.inference.constraint import Choices, Constraint, Vocabulary
from mlx_llava.inference.schema import JsonSchema
from mlx_llava.prompts.tokens import Tokenizer

TOKENIZER = Path(__file__).parents[1] / "mlx_llava" / "embedded" / "tiny-llava-hf" / "tokenizer.json"
ANSWER = '{"color": "dark red", "count": 12, "note": "a circle and a square, side by side"}'
SCHEMA = {
    "type": "object",
    "properties": {
        "color": {"type": "string", "maxLength": 40},
        "count": {"type": "integer", "minimum": 0},
        "note": {"type": "string"},
    },
    "required": ["color", "count", "note"],
    "additionalProperties": False,
}
SIZES = (640, 32_000)
RUNS = 20


def vocabulary(size: int) -> Vocabulary:
    """The bundled model's tokens, and random words up to the size of a LLaMA vocabulary."""
    spec, rng = json.loads(TOKENIZER.read_text(encoding="utf-8")), random.Random(0)
    pieces = spec["model"]["vocab"]
    while len(pieces) < size:
        word = "".join(rng.choices("etaoinshrdlucmfwygp", k=rng.randint(2, 9)))
        pieces.setdefault(rng.choice(["", "▁"]) + word, len(pieces))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        path.write_text(json.dumps(spec), encoding="utf-8")
        tokenizer = Tokenizer.load(path, num_rows=len(pieces) + 2, image_id=638, restart_after_image=False)
    return Vocabulary(tokenizer, len(pieces) + 2, frozenset({tokenizer.eos_id}))


def cost(constraint: Constraint, tokens: Vocabulary, answer: str) -> str:
    """Milliseconds to start the first and the next answers, microseconds per token."""
    logits, ids = mx.random.normal((1, tokens.size)), tokens.tokenizer.text_ids(answer)
    mx.eval(logits)
    starts, seconds = [], []
    for _ in range(RUNS):
        before = time.perf_counter()
        matcher = constraint.start(tokens)
        starts.append(time.perf_counter() - before)
        for token in ids:
            before = time.perf_counter()
            mx.eval(mx.where(mx.array(matcher.allowed().view(np.uint8)), logits, -mx.inf))
            matcher.advance(token)
            seconds.append(time.perf_counter() - before)
    first, again = starts[0] * 1e3, median(starts[1:]) * 1e3
    return f"first start {first:.1f} ms, next {again:.2f} ms, {median(seconds) * 1e6:.0f} µs per token"


for size in SIZES:
    tokens = vocabulary(size)
    print(f"{size} tokens, schema: {cost(JsonSchema(SCHEMA), tokens, ANSWER)}")
    print(f"{size} tokens, choices: {cost(Choices(['yes', 'no', 'unsure']), tokens, 'unsure')}")
