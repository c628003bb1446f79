"""What the tests of `ask` share: pictures, questions and the answer that transformers gives."""

from collections.abc import Callable

from spine import EMBEDDED, answer_of

ONE, THREE = EMBEDDED / "examples" / "one_shape.png", EMBEDDED / "examples" / "three_shapes.png"
QUESTION, DESCRIBE = "What color is the circle?", "Describe the picture."
ANSWER = answer_of(ONE.name, QUESTION)["answer"]

Run = Callable[..., tuple[int, str, str]]
