"""What transformers answers, and the record of it: `python tests/parity/record.py` writes tests/golden/spine.npz."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LlavaConfig, LlavaForConditionalGeneration

sys.path.insert(0, str(Path(__file__).parents[1]))

from spine import ALL_LAYERS, ALL_ROWS, CASES, GOLDEN, NEW_TOKENS, SCALES, Case, last_rows, prompts, together, weights

from mlx_llava.checkpoint.config_json import from_hf
from mlx_llava.inputs import Batch, Example, collate

Reference = LlavaForConditionalGeneration


def build(case: Case, text_scale: float = SCALES["language_model"]) -> Reference:
    """transformers' model with the weights of the case."""
    values = case.config()
    model = Reference(LlavaConfig(**values)).eval()
    state = {modern_name(name): torch.tensor(w) for name, w in weights(from_hf(values), text_scale).items()}
    if values.get("tie_word_embeddings"):
        state["lm_head.weight"] = state["model.language_model.embed_tokens.weight"]
    model.load_state_dict(state, strict=True)
    return model


def modern_name(released: str) -> str:
    """The name of a released tensor inside a model of transformers 5."""
    if released.startswith("language_model.lm_head"):
        return released.removeprefix("language_model.")
    renamed = released.replace("language_model.model.", "language_model.").replace("vision_model.", "")
    return f"model.{renamed}"


def arguments(batch: Batch) -> dict[str, Any]:
    """A batch as transformers takes it."""
    given: dict[str, Any] = {
        "input_ids": torch.tensor(batch.tokens).long(),
        "attention_mask": torch.tensor(np.arange(batch.tokens.shape[1]) < batch.lengths[:, None]).long(),
    }
    if len(batch.crops):
        given["pixel_values"] = torch.tensor(batch.crops).permute(0, 3, 1, 2)
    return given


def logits(model: Reference, batch: Batch) -> NDArray[np.float32]:
    """Logits of every position; what stands at padding means nothing."""
    with torch.no_grad():
        return model(**arguments(batch)).logits.numpy()


def greedy(model: Reference, example: Example) -> list[int]:
    """The next tokens, no end-of-sequence token among them a stop."""
    model.generation_config.eos_token_id = None
    given = arguments(collate([example]))
    with torch.no_grad():
        ids: Any = model.generate(  # pyright: ignore[reportAttributeAccessIssue]
            **given, max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0
        )
    return ids[0, len(example.tokens) :].tolist()


def hidden_states(model: Reference, crops: NDArray[np.float32]) -> NDArray[np.float32]:
    """The tower's hidden states `[layers + 1, N, 1 + patches, hidden_size]`."""
    with torch.no_grad():
        pixels = torch.tensor(crops).permute(0, 3, 1, 2)
        states: Any = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states
    return np.stack([state.numpy() for state in states])


def main() -> None:
    """Write the record."""
    record = {}
    for name, case in CASES.items():
        model, rows = build(case), from_hf(case.config()).rows_per_crop
        batch = together(rows)
        record[f"{name}: logits"] = np.stack([*last_rows(batch, logits(model, batch))])
        for kind, example in prompts(rows).items():
            record[f"{name}: {kind}"] = np.array(greedy(model, example), np.int16)
        one = prompts(rows)["one picture"]
        if name in ALL_ROWS:
            record[f"{name}: all logits"] = logits(model, collate([one]))[0]
        if name in ALL_LAYERS:
            record[f"{name}: all layers"] = hidden_states(model, one.crops)
    np.savez_compressed(GOLDEN, **record)


if __name__ == "__main__":
    main()
