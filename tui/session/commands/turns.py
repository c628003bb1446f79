"""Commands about questions, answers and their branches."""

from mlx_llava.errors import UsageError
from mlx_llava.tui.session import dialogs, figures
from mlx_llava.tui.session.commands.command import number
from mlx_llava.tui.session.conversation import Node, code_blocks
from mlx_llava.tui.session.reply import Copy, Edit, Open, Reply, Say
from mlx_llava.tui.session.session import Session


def new(session: Session, _: str) -> Reply:
    session.new()
    return Say("a new chat")


def again(session: Session, _: str) -> None:
    session.again()


def edit(session: Session, argument: str) -> Reply:
    node = question(session, number(argument) if argument else len(session.conversation.questions))
    return Edit(node.text, node)


def question(session: Session, number: int) -> Node:
    """Return a question on the path by its number."""
    questions = session.conversation.questions
    if not 1 <= number <= len(questions):
        raise UsageError(f"there is no question {number}", f"There are {len(questions)}.")
    return questions[number - 1]


def correct(session: Session, argument: str) -> Reply:
    if not session.conversation.answers:
        raise UsageError("there is no answer yet", "Ask something.")
    answer = session.conversation.answers[-1]
    if not argument:
        return Edit(answer.text, answer)
    session.correct(answer, argument)
    return Say("the answer was changed", answer)


def branch(session: Session, argument: str) -> Reply:
    steps = {"next": 1, "previous": -1}
    *direction, which = argument.split() if argument[-1:].isdecimal() else [*argument.split(), ""]
    if len(direction) > 1 or any(word not in steps for word in direction):
        raise UsageError(f"/branch {argument}: not understood", "Use /branch, /branch previous, or /branch previous 2.")
    path = session.conversation.path()
    place = path.index(question(session, number(which))) if which else None
    node = next((n for n in reversed(path) if n.place[1] > 1), None) if place is None else path[place]
    if node is None or not session.choose(node, steps[direction[0]] if direction else 1):
        raise UsageError("there is no other branch", "/again and /edit make one.")
    path = session.conversation.path()
    here = next(n for n in reversed(path) if n.place[1] > 1) if place is None else path[place]
    return Say(f"branch {here.place[0]} of {here.place[1]}")


def copy(session: Session, argument: str) -> Reply:
    text = next((node.text for node in reversed(session.conversation.answers) if node.text), None)
    if text is None:
        raise UsageError("there is no answer yet", "Ask something.")
    if argument != "code":
        return Copy(text, "the answer was copied")
    blocks = code_blocks(text)
    if not blocks:
        raise UsageError("the last answer has no code block", "/copy copies all of it.")
    return Copy(blocks[-1], "the last code block was copied")


def stats(session: Session, _: str) -> Reply:
    facts = next((node.facts for node in reversed(session.conversation.answers) if node.facts), None)
    return Say("\n".join(figures.stats_lines(facts)) if facts else "there is no answer yet")


def tokens(session: Session, _: str) -> Reply:
    answer = session.conversation.answer_with_tokens
    return Open(dialogs.Tokens(answer), "\n".join(figures.token_lines(answer.tokens)))


def instead(session: Session, argument: str) -> None:
    place, _, rank = argument.partition(" ")
    answer = session.conversation.answer_with_tokens
    at, which = number(place), number(rank.strip())
    choices = figures.choices(answer.tokens[at - 1]) if 1 <= at <= len(answer.tokens) else ()
    if not 1 <= which <= len(choices):
        raise UsageError(f"/instead {argument}: there is no such token", "/tokens lists them.")
    session.instead(answer, at - 1, choices[which - 1])
