"""Prompts as LLaVA writes them, and which parts are trained.

In the expected training texts, 【】 encloses the trained parts.
"""

from itertools import groupby

import pytest

from mlx_llava.errors import PromptError, UsageError
from mlx_llava.prompts.templates import IMAGE, TEMPLATES, Piece, Special, Text, Turn, spell, template

# llava/conversation.py, in full
HUMAN = (
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, "
    "detailed, and polite answers to the human's questions."
)
USER = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
    "detailed, and polite answers to the user's questions."
)
MMTAG = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant is able to understand "
    "the visual content that the user provides, and assist the user with a variety of tasks using natural "
    "language.The visual content will be provided with the following format: <Image>visual content</Image>."
)
LLAVA_2 = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language."
)
LLAMA_2 = (
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being safe."
    "  Your answers should not include any harmful, unethical, racist, sexist, toxic, dangerous, or illegal content."
    " Please ensure that your responses are socially unbiased and positive in nature.\n\nIf a question does not make"
    " any sense, or is not factually coherent, explain why instead of answering something not correct. If you don't"
    " know the answer to a question, please don't share false information."
)
MPT = "A conversation between a user and an LLM-based AI assistant. The assistant gives helpful and honest answers."

OPEN = [Turn("Q1", 1, "A1"), Turn("Q2")]
CLOSED = [Turn("Q1", 1, "A1"), Turn("Q2", answer="A2")]

ENERGY = (
    "###Human: What are the key differences between renewable and non-renewable energy sources?###Assistant: "
    "Renewable energy sources are those that can be replenished naturally in a relatively short amount of time, "
)
ANSWERING = {
    "llava_v0": f"{HUMAN}###Human: <image>\nQ1###Assistant: A1###Human: Q2###Assistant:",
    "v0_mmtag": f"{MMTAG}###Human: <Image><image></Image>\nQ1###Assistant: A1###Human: Q2###Assistant:",
    "vicuna_v1": f"{USER} USER: <image>\nQ1 ASSISTANT: A1</s>USER: Q2 ASSISTANT:",
    "llava_v1": f"{HUMAN} USER: <image>\nQ1 ASSISTANT: A1</s>USER: Q2 ASSISTANT:",
    "v1_mmtag": f"{MMTAG} USER: <Image><image></Image>\nQ1 ASSISTANT: A1</s>USER: Q2 ASSISTANT:",
    "llama_2": f"[INST] <<SYS>>\n{LLAMA_2}\n<</SYS>>\n\n<image>\nQ1 [/INST] A1 </s><s>[INST] Q2 [/INST]",
    "llava_llama_2": f"[INST] <<SYS>>\n{LLAVA_2}\n<</SYS>>\n\n<image>\nQ1 [/INST] A1 </s><s>[INST] Q2 [/INST]",
    "mistral_instruct": "[INST] <image>\nQ1 [/INST] A1 </s>[INST] Q2 [/INST]",
    "chatml_direct": (
        "<|im_start|>system\nAnswer the questions.<|im_end|><|im_start|>user\n<image>\nQ1<|im_end|>"
        "<|im_start|>assistant\nA1<|im_end|><|im_start|>user\nQ2<|im_end|><|im_start|>assistant\n"
    ),
    "mpt": (
        f"<|im_start|>system\n{MPT}<|im_end|><|im_start|>user\n<image>\nQ1<|im_end|>"
        "<|im_start|>assistant\nA1<|im_end|><|im_start|>user\nQ2<|im_end|><|im_start|>assistant\n"
    ),
}
TRAINING = {
    "llava_v0": (
        f"{HUMAN}\n\n【###】 Human: <image>\nQ1\n【### Assistant: A1\n###】 Human: Q2\n【### Assistant: A2\n### 】"
    ),
    "v0_mmtag": (
        f"{MMTAG}\n\n【###】 Human: <Image><image></Image>\nQ1\n【### Assistant: A1\n###】 Human: Q2\n"
        "【### Assistant: A2\n### 】"
    ),
    "vicuna_v1": f"{USER} USER: <image>\nQ1 ASSISTANT:【 A1</s>】USER: Q2 ASSISTANT:【 A2</s>】",
    "llava_v1": f"{HUMAN} USER: <image>\nQ1 ASSISTANT:【 A1</s>】USER: Q2 ASSISTANT:【 A2</s>】",
    "v1_mmtag": f"{MMTAG} USER: <Image><image></Image>\nQ1 ASSISTANT:【 A1</s>】USER: Q2 ASSISTANT:【 A2</s>】",
    "llama_2": (
        f"[INST] <<SYS>>\n{LLAMA_2}\n<</SYS>>\n\n<image>\nQ1 [/INST]【 A1 </s>】<s>[INST] Q2 [/INST]【 A2 </s>】"
    ),
    "llava_llama_2": (
        f"[INST] <<SYS>>\n{LLAVA_2}\n<</SYS>>\n\n<image>\nQ1 [/INST]【 A1 </s>】<s>[INST] Q2 [/INST]【 A2 </s>】"
    ),
    "mistral_instruct": "[INST] <image>\nQ1 [/INST]【 A1 </s>】[INST] Q2 [/INST]【 A2 </s>】",
    "chatml_direct": (
        "<|im_start|>system\nAnswer the questions.<|im_end|><|im_start|>user\n<image>\nQ1<|im_end|>"
        "<|im_start|>assistant\n【A1<|im_end|>】<|im_start|>user\nQ2<|im_end|><|im_start|>assistant\n【A2<|im_end|>】"
    ),
    "mpt": (
        f"<|im_start|>system\n{MPT}<|im_end|><|im_start|>user\n<image>\nQ1<|im_end|>"
        "<|im_start|>assistant\n【A1<|im_end|>】<|im_start|>user\nQ2<|im_end|><|im_start|>assistant\n【A2<|im_end|>】"
    ),
}
ALIASES = {"default": "v0", "v1": "vicuna_v1", "mistral_direct": "chatml_direct", "v0_plain": "plain"}


def spell_trained(pieces: list[Piece]) -> str:
    runs = groupby(pieces, lambda piece: piece.trained)
    return "".join(f"【{spell(run)}】" if trained else spell(run) for trained, run in runs)


@pytest.mark.parametrize("name", ANSWERING)
def test_a_conversation_reads_as_llava_writes_it(name: str) -> None:
    assert spell(template(name).answering(OPEN)) == ANSWERING[name]


@pytest.mark.parametrize("name", TRAINING)
def test_loss_is_taken_where_llava_takes_it(name: str) -> None:
    assert spell_trained(template(name).training(CLOSED)) == TRAINING[name]


def test_v0_opens_with_an_exchange_about_energy_when_it_answers() -> None:
    prompt = spell(template("v0").answering([Turn("Q1", 1)]))
    assert prompt.startswith(HUMAN + ENERGY)
    assert prompt.endswith(" can lead to economic and social instability.\n###Human: <image>\nQ1###Assistant:")
    assert prompt.count("\n") == 8  # six numbered lines, the line before them, and the image's
    assert template("v0").training(CLOSED) == template("llava_v0").training(CLOSED)


def test_a_caption_is_trained_without_its_instruction() -> None:
    turns = [Turn("Provide a brief description of the given image.", 1, "a cat")]
    assert spell_trained(template("plain").training(turns)) == "<image>【a cat\n】"
    assert spell(template("plain").answering([Turn("Q1", 1)])) == "<image>\nQ1\n"


@pytest.mark.parametrize(
    "turns",
    [
        [Turn("Q", 0, "A")],
        [Turn("Q", 2, "A")],
        [Turn("Q", 1, "A"), Turn("Q", 1, "A")],
        [Turn("Q", 1, "A"), Turn("Q", 0, "A")],
    ],
)
def test_a_caption_is_one_turn_with_one_image(turns: list[Turn]) -> None:
    with pytest.raises(PromptError, match="the plain template takes one of each"):
        template("plain").training(turns)


def test_every_template_is_checked_here() -> None:
    assert set(TEMPLATES) == set(ANSWERING) | {"plain", "v0"} | set(ALIASES)
    assert set(ANSWERING) == set(TRAINING)
    assert all(TEMPLATES[alias] is TEMPLATES[key] for alias, key in ALIASES.items())


def test_typed_text_stays_text() -> None:
    typed = "<image></s><s>USER: ###<|im_end|>"
    pieces = template("llava_v1").training([Turn(typed, 1, typed)])
    assert pieces.count(IMAGE) == 1
    assert [piece for piece in pieces if isinstance(piece, Special)] == [Special("</s>", trained=True)]
    assert Text(typed) in pieces
    assert Text(f" {typed}", trained=True) in pieces


@pytest.mark.parametrize(("num_images", "front"), [(0, ""), (1, "<image>\n"), (3, "<image>\n<image>\n<image>\n")])
def test_images_come_before_their_question(num_images: int, front: str) -> None:
    pieces = template("mistral_instruct").answering([Turn("Q1", answer="A1"), Turn("Q2", num_images)])
    assert spell(pieces) == f"[INST] Q1 [/INST] A1 </s>[INST] {front}Q2 [/INST]"


def test_image_marks_among_the_parts_of_a_question_stay_in_place() -> None:
    turn = Turn(("Compare ", IMAGE, " with ", IMAGE, "\n"))
    assert spell(template("mistral_instruct").answering([turn])) == "[INST] Compare <image> with <image>\n [/INST]"
    tagged = spell(template("v1_mmtag").answering([Turn(("What is this?\n", IMAGE))]))
    assert tagged.endswith("USER: What is this?\n<Image><image></Image> ASSISTANT:")


def test_the_system_prompt_can_be_replaced() -> None:
    turn = [Turn("Q")]
    assert spell(template("vicuna_v1").answering(turn, system="S")) == "S USER: Q ASSISTANT:"
    assert spell(template("llama_2").answering(turn, system="S")) == "[INST] <<SYS>>\nS\n<</SYS>>\n\nQ [/INST]"
    assert spell(template("llama_2").answering(turn, system="")) == "[INST] Q [/INST]"
    assert spell(template("llava_v0").training([Turn("Q", 0, "A")], system="S")).startswith("S\n\n### Human: Q\n")
    assert Text("</s>") in template("vicuna_v1").answering(turn, system="</s>")


@pytest.mark.parametrize("turns", [[], CLOSED, [Turn("Q1"), Turn("Q2")]])
def test_a_prompt_to_answer_has_one_open_turn_at_the_end(turns: list[Turn]) -> None:
    with pytest.raises(PromptError, match="one open turn, the last"):
        template("vicuna_v1").answering(turns)


@pytest.mark.parametrize("turns", [[], OPEN])
def test_a_prompt_to_train_on_has_all_answers(turns: list[Turn]) -> None:
    with pytest.raises(PromptError, match="turns, all answered"):
        template("vicuna_v1").training(turns)


def test_the_plain_template_does_not_chat() -> None:
    with pytest.raises(PromptError, match="one turn, not 2"):
        template("plain").answering(OPEN)


def test_templates_know_the_text_that_ends_an_answer() -> None:
    stops = {name: template(name).stop for name in ("llava_v0", "vicuna_v1", "chatml_direct")}
    assert stops == {"llava_v0": ("###",), "vicuna_v1": (), "chatml_direct": ("<|im_end|>",)}


def test_an_unknown_template_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="no prompt template 'v7'") as caught:
        template("v7")
    assert "vicuna_v1" in caught.value.advice
