"""Tokens of an answer to text, and where the answer ends: at a stop token, at a stop text, or at a limit."""

from collections.abc import Sequence

from mlx_llava.inference.constraint import Matcher
from mlx_llava.inference.prompter import Prompter
from mlx_llava.inference.sampling import Finish
from mlx_llava.prompts.tokens import Detokenizer


class StopText:
    """Cuts text at the first stop string; holds back text that may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = stops
        self.held = ""
        self.reached = False

    def add(self, text: str) -> str:
        """The text that cannot belong to a stop string."""
        self.held += text
        ends = [at for stop in self.stops if (at := self.held.find(stop)) >= 0]
        if ends:
            self.reached = True
            safe, self.held = self.held[: min(ends)], ""
            return safe
        longest = max((n for stop in self.stops for n in range(len(stop)) if self.held.endswith(stop[:n])), default=0)
        cut = len(self.held) - longest
        safe, self.held = self.held[:cut], self.held[cut:]
        return safe


class AnswerText:
    """The text of one answer, token by token; `finish` is set once it ends.

    Args:
        matcher: follows the answer if it has a constraint, whose own end then replaces stop texts.
    """

    def __init__(self, prompter: Prompter, max_tokens: int, matcher: Matcher | None = None) -> None:
        self.finish: Finish = "cancelled"
        self._stop_ids = prompter.stop_ids
        self._detokenizer = Detokenizer(prompter.checkpoint.tokenizer, drops_first_space=None if not matcher else True)
        self._stop_text = StopText(() if matcher else prompter.template.stop)
        self._left = max_tokens
        self._matcher = matcher

    def add(self, token: int) -> str:
        """The text that is certain with one more token; the last token releases everything held back."""
        self._left -= 1
        stops, full = token in self._stop_ids, not self._left
        text = "" if stops else self._detokenizer.add(token)
        text = self._stop_text.add(text + (self._detokenizer.finish() if stops or full else ""))
        stops = stops or self._stop_text.reached
        if not (stops or full):
            return text
        stops = stops or (self._matcher is not None and self._matcher.finished)
        self.finish = "stop" if stops else "length"
        return text + self._stop_text.held
