"""Chats are saved as they happen: through crashes, beside other windows, and privately."""

import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from saved_chats import saved_image as image
from saved_chats import talk
from scripted import ScriptedWorker

from mlx_llava.engine.thread import Engine
from mlx_llava.tui.history.database import HistoryError
from mlx_llava.tui.history.history import History
from mlx_llava.tui.session.autosave import Record
from mlx_llava.tui.session.conversation import Node
from mlx_llava.tui.session.session import Session
from mlx_llava.tui.session.settings import Settings


def test_a_chat_comes_back_as_it_was(history: History, folder: Path) -> None:
    chat = history.begin("embedded", {"temperature": 0.5, "seed": 3})
    shown = (image(b"cat"), replace(image(b"dog", "dog.png"), off=True))
    question = history.add(chat, "user", "What is\nthis?", None, shown, {"template": "v1"})
    answer = history.add(chat, "assistant", "", question)
    history.revise(answer, "a c")
    history.revise(answer, "a cat", {"first_token": 0.25, "finish": "stop"})
    history.close()
    saved = History(folder).load(chat)
    assert (saved.info.title, saved.info.model, saved.info.settings["seed"]) == ("What is this?", "embedded", 3)
    first, second = saved.path()
    assert (first.text, first.images, first.facts) == ("What is\nthis?", shown, {"template": "v1"})
    assert (second.text, second.facts["finish"], second.edited) == ("a cat", "stop", False)


def test_branches_stay_and_the_current_path_can_be_changed(history: History) -> None:
    chat = history.begin("embedded", {})
    question = history.add(chat, "user", "colour?", None)
    red = history.add(chat, "assistant", "red", question)
    blue = history.add(chat, "assistant", "blue", question)
    history.add(chat, "user", "shape?", None)
    saved = history.load(chat)
    assert [m.text for m in saved.path()] == ["shape?"]
    assert {m.parent for m in saved.messages.values()} == {None, question}
    history.set_tip(chat, red)
    assert [m.text for m in history.load(chat).path()] == ["colour?", "red"]
    history.set_tip(chat, blue)
    assert [m.text for m in history.load(chat).path()] == ["colour?", "blue"]


def test_an_edited_answer_is_marked(history: History) -> None:
    chat = talk(history, "colour?", "red")
    answer = history.load(chat).path()[-1].key
    history.revise(answer, "crimson", edited=True)
    history.revise(answer, "crimson")
    message = history.load(chat).path()[-1]
    assert (message.text, message.edited) == ("crimson", True)


def test_chats_are_listed_pinned_first_then_by_last_use(history: History) -> None:
    first, second, third = (talk(history, text, "yes") for text in ("one", "two", "three"))
    history.pin(second, pinned=True)
    history.rename(first, "  a\nnew  name ")
    history.add(first, "user", "again", None)
    assert [info.key for info in history.chats()] == [second, first, third]
    assert [info.key for info in history.chats(limit=1, offset=2)] == [third]
    assert (history.last() or history.chats()[0]).key == first
    assert (history.chats()[1].title, history.chats()[1].num_messages) == ("a new name", 3)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("pengu", ["Two penguins on ice"]),
        ("ICE penguin", ["Two penguins on ice"]),
        ("氷の上", ["氷の上のペンギン"]),
        ("氷", ["氷の上のペンギン"]),
        ('"100%"', ['say "100%" or 100_']),
        ("% ice", []),
        ("zebra", []),
        ("  ", []),
        ("AND OR", []),
        ("holi", ["holiday"]),
    ],
)
def test_a_search_finds_every_word_and_parts_of_words(history: History, text: str, found: list[str]) -> None:
    talk(history, "What is this?", "Two penguins on ice", title="holiday")
    talk(history, "これは何", "氷の上のペンギン")
    talk(history, "quote", 'say "100%" or 100_')
    assert [hit.excerpt for hit in history.search(text)] == found


def test_an_excerpt_shows_where(history: History) -> None:
    chat = talk(history, "tell", "long " * 100 + "needle" + " story" * 100)
    (hit,) = history.search("needle")
    assert "needle" in hit.excerpt
    assert len(hit.excerpt) < 200
    assert (hit.chat.key, hit.message) == (chat, history.load(chat).path()[-1].key)


@given(st.text(), st.text())
def test_any_text_can_be_saved_and_searched(text: str, query: str) -> None:
    history = History(None)
    chat = talk(history, "?", text)
    assert len(history.load(chat).path()[-1].text) == len(text)
    history.search(query)
    history.close()


def test_a_deleted_chat_leaves_nothing_in_the_file(history: History, folder: Path) -> None:
    chat = history.begin("embedded", {})
    history.add(chat, "user", "unforgettable secret", None, [image(b"private")])
    other = history.begin("embedded", {})
    history.add(other, "user", "kept", None, [image(b"shared")])
    history.add(chat, "user", "more", None, [image(b"shared")])
    history.delete(chat)
    assert history.search("secret") == []
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert not any(b"forgettable" in file.read_bytes() for file in files)
    assert {file.name for file in folder.rglob("pictures/*/*")} == {sha256(b"shared").hexdigest()}
    for act in (lambda: history.delete(chat), lambda: history.rename(chat, "x"), lambda: history.load(chat)):
        with pytest.raises(HistoryError, match=f"chat {chat}"):
            act()
    with pytest.raises(HistoryError, match="another window"):
        history.add(chat, "user", "late", None)
    assert history.load(other).path()[0].text == "kept"


def test_a_run_without_history_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    history = History(None)
    chat = history.begin("embedded", {})
    history.add(chat, "user", "find me", None, [image(b"cat")])
    assert history.read_image(history.load(chat).path()[0].images[0]) == b"cat"
    assert len(history.search("find")) == 1
    assert list(tmp_path.iterdir()) == []


WRITER = """
import sys, time
from pathlib import Path
from mlx_llava.tui.history.history import History
history, name = History(Path(sys.argv[1])), sys.argv[2]
chat, parent = int(sys.argv[3]) or history.begin("embedded", {}), None
for number in range(int(sys.argv[4])):
    parent = history.add(chat, "user", f"{name} question {number}", parent)
    print(f"{name} question {number}", flush=True)
    parent = history.add(chat, "assistant", "", parent)
    for length in range(0, 40, 10):
        history.revise(parent, f"{name} answer {number} ".ljust(length, "."))
    history.revise(parent, f"{name} answer {number}", {"finish": "stop"})
    print(f"{name} answer {number}", flush=True)
"""


def writer(folder: Path, name: str, chat: int, turns: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), name, str(chat), str(turns)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_windows_lose_nothing(folder: Path) -> None:
    chat = History(folder).begin("embedded", {})
    windows = [writer(folder, name, chat, 40) for name in ("left", "right")]
    printed = [line for window in windows for line in window.communicate()[0].splitlines()]
    assert [window.returncode for window in windows] == [0, 0]
    saved = History(folder).load(chat)
    assert sorted(message.text for message in saved.messages.values()) == sorted(printed)
    assert len(printed) == 160
    assert len(saved.path()) == 80  # the whole branch of the window that wrote last


def test_two_windows_may_begin_at_once(folder: Path) -> None:
    windows = [writer(folder, str(n), 0, 2) for n in range(4)]
    assert [window.wait() for window in windows] == [0] * 4
    assert len(History(folder).chats()) == 4


def test_after_going_incognito_the_chat_is_saved_again_in_memory_only(folder: Path) -> None:
    session = Session(lambda: Engine(ScriptedWorker), Settings(), Record(History(folder)))
    question = session.conversation.add(Node("user", "one?"))
    session.record.add(question)
    answer = session.conversation.add(Node("assistant", "two"))
    session.record.add(answer)
    session.set("incognito", "on")
    assert question.key is answer.key is None
    other = session.conversation.add(Node("user", "three?"), question.parent)
    session.record.add(other)
    session.record.show(answer)
    session.record.save_correction(answer)
    assert [m.text for m in session.record.history.load(session.record.chat or 0).path()] == ["three?"]


def test_a_killed_program_loses_at_most_the_answer_it_was_generating(folder: Path) -> None:
    rng = random.Random(4)
    for attempt in range(4):
        window = writer(folder, f"run{attempt}", 0, 100_000)
        assert window.stdout
        first = window.stdout.readline()
        time.sleep(rng.uniform(0.05, 0.3))
        window.send_signal(signal.SIGKILL)
        printed = [first, *window.stdout.readlines()]
        window.wait()
        whole = [line.strip() for line in printed if line.endswith("\n")]
        history = History(folder)
        assert history.notice == ""
        last = history.last()
        assert last
        saved = [message.text for message in history.load(last.key).path()]
        assert saved[: len(whole)] == whole
        assert len(saved) <= len(whole) + 2
        history.close()
