"""Prompt templates: the turns of a conversation as a list of pieces.

Knows nothing of token ids. A prompt is never searched for markers, so typed text stays text, even if it contains
`<image>`, `</s>` or `USER:`.

Sources: haotian-liu/LLaVA at c121f04, llava/conversation.py (strings, separators, order) and
llava/train/train.py, `preprocess_*` (training texts, and where loss is taken).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from mlx_llava.errors import PromptError, UsageError


@dataclass(frozen=True)
class Text:
    """Text of the template or of the user; `trained` text counts in the loss."""

    text: str
    trained: bool = False


@dataclass(frozen=True)
class Special:
    """A special token, by its text."""

    text: str
    trained: bool = False


@dataclass(frozen=True)
class ImageMark:
    """The place of one image."""

    text: str = field(default="<image>", init=False)
    trained: bool = field(default=False, init=False)


Piece = Text | Special | ImageMark
IMAGE = ImageMark()


@dataclass(frozen=True)
class Turn:
    """A question and its answer; the answer of an open turn is None.

    `num_images` images come before the question, one per line. A question given as parts has image marks of its own:
    `Turn(("What is this?\\n", IMAGE))`.
    """

    question: str | Sequence[str | ImageMark]
    num_images: int = 0
    answer: str | None = None

    def parts(self) -> list[str | ImageMark]:
        """The question with its images."""
        question = [self.question] if isinstance(self.question, str) else self.question
        return [IMAGE, "\n"] * self.num_images + [*question]


@dataclass(frozen=True)
class System:
    """The place of the system prompt; without one, `before` and `after` are left out too."""

    before: str = ""
    after: str = ""


@dataclass(frozen=True)
class Layout:
    """The fixed pieces around the turns of a conversation."""

    first: tuple[Piece | System, ...]
    """Before the first question."""
    later: tuple[Piece, ...]
    """Before every other question."""
    cue: tuple[Piece, ...]
    """Between a question and its answer."""
    lead: str
    """Opens the answer and is trained with it."""
    end: tuple[Piece, ...]
    """Closes the answer."""
    tail: tuple[Piece, ...] = ()
    """After the last answer."""


@dataclass(frozen=True)
class Template:
    """The prompt format that a model was trained on."""

    system: str
    layout: Layout
    training_layout: Layout | None = None
    """The layout of training, if it differs from that of answering."""
    image: tuple[Piece, ...] = (IMAGE,)
    """The pieces of one image."""
    stop: tuple[str, ...] = ()
    """Text that ends an answer in formats without an end-of-sequence token."""
    captions: bool = False
    """The template of stage 1: one image and one caption, nothing else."""
    opening: tuple[Turn, ...] = ()
    """An exchange that precedes every conversation when answering."""

    def answering(self, turns: Sequence[Turn], system: str | None = None) -> list[Piece]:
        """The prompt for the answer of the last turn."""
        answers = [turn.answer for turn in turns]
        if not turns or answers[-1] is not None or None in answers[:-1]:
            raise PromptError("a prompt to answer needs one open turn, the last", "Leave out the last answer only.")
        if self.captions and len(turns) != 1:
            raise PromptError(f"the plain template has one turn, not {len(turns)}", "Use another template to chat.")
        return self._pieces(self.layout, [*self.opening, *turns], system)

    def training(self, turns: Sequence[Turn], system: str | None = None) -> list[Piece]:
        """The prompt that trains the answers of all turns."""
        if not turns or any(turn.answer is None for turn in turns):
            raise PromptError("a prompt to train on needs turns, all answered", "Answer every turn.")
        if self.captions:
            return _caption(turns)
        layout = self.training_layout or self.layout
        return [*self._pieces(layout, turns, system), *layout.tail]

    def _pieces(self, layout: Layout, turns: Sequence[Turn], system: str | None) -> list[Piece]:
        pieces = [*_opening(layout.first, self.system if system is None else system)]
        for i, turn in enumerate(turns):
            pieces += layout.later if i else ()
            for part in turn.parts():
                pieces += (Text(part),) if isinstance(part, str) else self.image
            pieces += layout.cue
            if turn.answer is not None:
                pieces += (Text(layout.lead + turn.answer, trained=True), *layout.end)
        return pieces


def spell(pieces: Iterable[Piece]) -> str:
    """The prompt as one readable string."""
    return "".join(piece.text for piece in pieces)


def template(name: str) -> Template:
    """The template with this name; UsageError if there is none."""
    if name not in TEMPLATES:
        raise UsageError(f"no prompt template {name!r}", f"Choose one of: {', '.join(sorted(TEMPLATES))}.")
    return TEMPLATES[name]


def _opening(first: Sequence[Piece | System], system: str) -> Iterable[Piece]:
    for piece in first:
        if not isinstance(piece, System):
            yield piece
        elif system:
            yield from (Text(piece.before), Text(system), Text(piece.after))


def _caption(turns: Sequence[Turn]) -> list[Piece]:
    # preprocess_plain: the instruction is dropped, and only a newline ends the caption
    marks = [turn.parts().count(IMAGE) for turn in turns]
    if marks != [1]:
        num_turns = f"{len(turns)} turn{'s' * (len(turns) != 1)}"
        num_images = f"{sum(marks) or 'no'} image{'s' * (sum(marks) > 1)}"
        problem = f"{num_turns} and {num_images}, and the plain template takes one of each"
        raise PromptError(problem, "Give one image with one caption per record, or name another --template.")
    return [IMAGE, Text(f"{turns[0].answer}\n", trained=True)]


_BOS, _EOS = Special("<s>"), Special("</s>", trained=True)
_IM_START, _IM_END = Special("<|im_start|>"), Special("<|im_end|>")
SPECIALS = frozenset(piece.text for piece in (_BOS, _EOS, _IM_START, _IM_END))
"""The special tokens that templates write."""

# sep_style SINGLE, sep "###"
_V0 = Layout(
    first=(System(), Text("###Human: ")),
    later=(Text("Human: "),),
    cue=(Text("###Assistant:"),),
    lead=" ",
    end=(Text("###", trained=True),),
)
# preprocess, _add_speaker_and_signal, _mask_targets: the `###` that opens a turn is trained as the stop signal
_V0_TRAINING = Layout(
    first=(System(), Text("\n\n"), Text("###", trained=True), Text(" Human: ")),
    later=(Text("###", trained=True), Text(" Human: ")),
    cue=(Text("\n"), Text("### Assistant:", trained=True)),
    lead=" ",
    end=(Text("\n", trained=True),),
    tail=(Text("### ", trained=True),),
)
# sep_style TWO, sep " ", sep2 "</s>"
_V1 = Layout(
    first=(System(), Text(" USER: ")), later=(Text("USER: "),), cue=(Text(" ASSISTANT:"),), lead=" ", end=(_EOS,)
)
# sep_style LLAMA_2, sep2 "</s>"; the first <s> is the tokenizer's
_MISTRAL = Layout(
    first=(Text("[INST] "), System("<<SYS>>\n", "\n<</SYS>>\n\n")),
    later=(Text("[INST] "),),
    cue=(Text(" [/INST]"),),
    lead=" ",
    end=(Text(" ", trained=True), _EOS),
)
# the same with sep "<s>"
_LLAMA_2 = Layout(_MISTRAL.first, (_BOS, *_MISTRAL.later), _MISTRAL.cue, _MISTRAL.lead, _MISTRAL.end)
# sep_style MPT, sep "<|im_end|>"
_CHATML = Layout(
    first=(_IM_START, Text("system\n"), System(), _IM_END, _IM_START, Text("user\n")),
    later=(_IM_START, Text("user\n")),
    cue=(_IM_END, _IM_START, Text("assistant\n")),
    lead="",
    end=(Special("<|im_end|>", trained=True),),
)
# sep_style PLAIN, sep "\n"
_PLAIN = Layout(first=(System(),), later=(), cue=(Text("\n"),), lead="", end=())

_HUMAN = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)
_USER = _HUMAN.replace("human", "user")
_MMTAG = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant is able to understand the visual content that the user provides, "
    "and assist the user with a variety of tasks using natural language."  # no space here, as published
    "The visual content will be provided with the following format: <Image>visual content</Image>."
)
_LLAVA_LLAMA_2 = (
    "You are a helpful language and vision assistant. "
    "You are able to understand the visual content that the user provides, "
    "and assist the user with a variety of tasks using natural language."
)
_META_LLAMA_2 = (
    "You are a helpful, respectful and honest assistant. "
    "Always answer as helpfully as possible, while being safe.  "  # two spaces, as published
    "Your answers should not include any harmful, unethical, racist, sexist, toxic, dangerous, or illegal "
    "content. Please ensure that your responses are socially unbiased and positive in nature.\n\n"
    "If a question does not make any sense, or is not factually coherent, explain why instead of answering "
    "something not correct. If you don't know the answer to a question, please don't share false information."
)
_MPT = "A conversation between a user and an LLM-based AI assistant. The assistant gives helpful and honest answers."
_TAGGED = (Text("<Image>"), IMAGE, Text("</Image>"))

_ENERGY = Turn(  # conv_vicuna_v0
    "What are the key differences between renewable and non-renewable energy sources?",
    answer="Renewable energy sources are those that can be replenished naturally in a relatively short amount of "
    "time, such as solar, wind, hydro, geothermal, and biomass. Non-renewable energy sources, on the other hand, are "
    "finite and will eventually be depleted, such as coal, oil, and natural gas. Here are some key differences between "
    "renewable and non-renewable energy sources:\n"
    "1. Availability: Renewable energy sources are virtually inexhaustible, while non-renewable energy sources are "
    "finite and will eventually run out.\n"
    "2. Environmental impact: Renewable energy sources have a much lower environmental impact than non-renewable "
    "sources, which can lead to air and water pollution, greenhouse gas emissions, and other negative effects.\n"
    "3. Cost: Renewable energy sources can be more expensive to initially set up, but they typically have lower "
    "operational costs than non-renewable sources.\n"
    "4. Reliability: Renewable energy sources are often more reliable and can be used in more remote locations than "
    "non-renewable sources.\n"
    "5. Flexibility: Renewable energy sources are often more flexible and can be adapted to different situations and "
    "needs, while non-renewable sources are more rigid and inflexible.\n"
    "6. Sustainability: Renewable energy sources are more sustainable over the long term, while non-renewable sources "
    "are not, and their depletion can lead to economic and social instability.\n",
)

_BY_KEY = {
    "v0": Template(_HUMAN, _V0, _V0_TRAINING, stop=("###",), opening=(_ENERGY,)),
    "llava_v0": Template(_HUMAN, _V0, _V0_TRAINING, stop=("###",)),
    "v0_mmtag": Template(_MMTAG, _V0, _V0_TRAINING, _TAGGED, stop=("###",)),
    "vicuna_v1": Template(_USER, _V1),
    "llava_v1": Template(_HUMAN, _V1),
    "v1_mmtag": Template(_MMTAG, _V1, image=_TAGGED),
    "llama_2": Template(_META_LLAMA_2, _LLAMA_2),
    "llava_llama_2": Template(_LLAVA_LLAMA_2, _LLAMA_2),
    "mistral_instruct": Template("", _MISTRAL),
    "chatml_direct": Template("Answer the questions.", _CHATML, stop=("<|im_end|>",)),
    "mpt": Template(_MPT, _CHATML, stop=("<|im_end|>",)),
    "plain": Template("", _PLAIN, captions=True),
}
_ALIASES = {"default": "v0", "v1": "vicuna_v1", "mistral_direct": "chatml_direct", "v0_plain": "plain"}
TEMPLATES: Mapping[str, Template] = MappingProxyType(_BY_KEY | {alias: _BY_KEY[key] for alias, key in _ALIASES.items()})
"""Templates by the keys of llava/conversation.py."""
