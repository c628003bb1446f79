"""An exported chat can be read by people, browsers, and our own training."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from spine import EMBEDDED

from mlx_llava.data.reading import read
from mlx_llava.data.records import record_of
from mlx_llava.errors import ImageError, RecordError, UsageError
from mlx_llava.images.pixels import identity, open_image
from mlx_llava.look import LookOptions, look
from mlx_llava.prompts.templates import IMAGE
from mlx_llava.tui.history.export import as_json, export, llava_record, markdown
from mlx_llava.tui.history.export_page import POLICY, page
from mlx_llava.tui.history.history import History
from mlx_llava.tui.history.image_copies import SavedImage
from mlx_llava.tui.history.queries import SavedChat

HOSTILE = '<script>alert(1)</script> ![x](http://evil/x.png) [y](javascript:alert(1)) <img src=x onerror="a()"> \x1b[2J'


def image_file(colour: str) -> bytes:
    """A rotated image with transparent pixels, as phones and designers make them."""
    pil_image = Image.new("RGBA", (8, 4), colour)
    pil_image.putpixel((0, 0), (0, 0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    pil_image.save(file, "PNG", exif=exif)
    return file.getvalue()


def image(colour: str, name: str = "cat.png") -> SavedImage:
    data = image_file(colour)
    return SavedImage(name, sha256(data).hexdigest(), (4, 8), data=data)


@pytest.fixture
def history() -> History:
    return History(None, clock=lambda: 1_700_000_000.0)


@pytest.fixture
def chat(history: History) -> SavedChat:
    """Two questions with images, one without an answer, and a branch off the current path."""
    key = history.begin("llava-1.5", {"system": None, "seed": 3})
    first = history.add(key, "user", "What is this?\n* a *", None, [image("red"), replace(image("lime"), off=True)])
    history.add(key, "assistant", "another branch", first)
    answer = history.add(key, "assistant", "A **red** thing", first)
    history.revise(answer, "A *crimson* thing", edited=True)
    lost = history.add(key, "user", "never answered", answer, [image("blue", "b|[x](y).png")])
    nothing = history.add(key, "assistant", "", lost)
    last = history.add(key, "user", "And <image> now?", nothing, [image("red")])
    history.add(key, "assistant", "It says <image>.", last)
    return history.load(key)


def test_llava_json_is_training_data(chat: SavedChat, history: History, tmp_path: Path) -> None:
    done = export(chat, "llava", tmp_path / "my data.json", history.read_image)
    dataset = read(done.file, done.images)
    (record,) = dataset
    assert [turn.answer for turn in record.turns] == ["A *crimson* thing", "It says <image >."]
    assert record.turns[0].parts() == [IMAGE, "\nWhat is this?\n* a *"]
    assert record.turns[1].parts() == [IMAGE, "\n", IMAGE, "\nAnd <image > now?"]  # the lost question's too
    assert record.images[0] == record.images[2] != record.images[1]
    assert done.images
    for name, colour in zip(record.images, ("red", "blue", "red"), strict=True):
        trained = open_image(done.images / name, "training")
        assert identity(trained) == identity(open_image(image_file(colour), "display"))


def test_look_shows_what_was_exported(
    chat: SavedChat,
    history: History,
    tmp_path: Path,
    converted: Callable[[Path], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = export(chat, "llava", tmp_path / "train.json", history.read_image)
    look(LookOptions(data=done.file, images=done.images, model=str(converted(EMBEDDED))))
    assert "【 A *crimson* thing</s>】" in capsys.readouterr().out


def test_a_chat_is_appended_and_the_same_path_is_replaced(chat: SavedChat, history: History, tmp_path: Path) -> None:
    file = tmp_path / "train.json"
    file.write_text('[{"id": "theirs", "conversations": []}]')
    export(chat, "llava", file, history.read_image)
    history.revise(chat.path()[-1].key, "better", edited=True)
    export(history.load(chat.info.key), "llava", file, history.read_image)
    theirs, ours = json.loads(file.read_text())
    assert (theirs["id"], ours["conversations"][-1]["value"]) == ("theirs", "better")
    file.write_text('{"not": "a list"}')
    with pytest.raises(RecordError, match="not a list"):
        export(chat, "llava", file, history.read_image)
    assert file.read_text() == '{"not": "a list"}'


def test_a_system_prompt_is_exported(history: History, tmp_path: Path) -> None:
    key = history.begin("m", {"system": "Be brief."})
    question = history.add(key, "user", "How many?", None)
    history.add(key, "assistant", "two", question)
    done = export(history.load(key), "llava", tmp_path / "a.json", history.read_image)
    (record,) = read(done.file, None)
    assert (record.system, record.images, done.images) == ("Be brief.", (), None)


def test_a_chat_without_an_answer_is_no_training_data(history: History, tmp_path: Path) -> None:
    key = history.begin("m", {"system": "Be brief."})
    history.add(key, "user", "?", None)
    with pytest.raises(RecordError, match="no answer to train on"):
        export(history.load(key), "llava", tmp_path / "a.json", history.read_image)
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.tuples(st.text(), st.text(), st.booleans()), min_size=1, max_size=4))
def test_any_chat_is_a_record_that_training_reads(exchanges: list[tuple[str, str, bool]]) -> None:
    history = History(None)
    key, parent = history.begin("m", {}), None
    for question, answer, with_image in exchanges:
        images = [SavedImage("x", "0" * 64, (1, 1))] if with_image else []
        parent = history.add(key, "user", question, parent, images)
        parent = history.add(key, "assistant", answer, parent)
    try:
        record = record_of(json.loads(json.dumps(llava_record(history.load(key), {"0" * 64: "x.png"}))), 1, "here")
    except RecordError:
        assert not any(answer.strip() and (question.strip() or shown) for question, answer, shown in exchanges)
    else:
        assert all(turn.answer for turn in record.turns)
    history.close()


class Reader(HTMLParser):
    """Collects the parts of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags, self.attributes = set[str](), set[str]()
        self.sources, self.links = list[str](), list[str]()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.sources += [value or "" for name, value in attrs if name == "src"]
        self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        self.text += data


def check_page(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    assert not reader.tags & {"script", "iframe", "object", "embed", "link", "form", "svg", "base", "video"}
    assert reader.attributes <= set("lang charset http-equiv content name class src alt href title start".split())
    assert all(source.startswith("data:image/png;base64,") for source in reader.sources)
    assert not any(link.strip().lower().startswith(("javascript:", "data:", "vbscript:")) for link in reader.links)
    assert f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">' in text
    return reader


def test_a_page_embeds_its_images_and_nothing_active(chat: SavedChat, history: History, tmp_path: Path) -> None:
    done = export(chat, "html", tmp_path / "chat.html", history.read_image)
    text = done.file.read_text()
    reader = check_page(text)
    assert text.count("data:image/png;base64,") == 4
    assert "<em>crimson</em>" in text
    assert "edited" in reader.text
    assert "another branch" not in text
    assert [file.name for file in tmp_path.iterdir()] == ["chat.html"]


@given(st.one_of(st.text(), st.just(HOSTILE), st.text("<>&\"'`()[]!:/\\ \nabj\x1b-|#*_~")))
def test_hostile_text_stays_text_on_a_page(text: str) -> None:
    history = History(None)
    key = history.begin(text, {}, title=text)
    question = history.add(key, "user", text, None, [SavedImage(text, "0" * 64, (1, 1))])
    history.add(key, "assistant", text, question)
    reader = check_page(page(history.load(key), {}))
    assert "img" not in reader.tags
    assert not any(ord(c) < 0x20 and c not in "\n\t" for c in reader.text)
    history.close()


def test_markdown_links_images_in_a_folder_beside_it(chat: SavedChat, history: History, tmp_path: Path) -> None:
    done = export(chat, "markdown", tmp_path / "my chat (1).md", history.read_image)
    text = done.file.read_text()
    assert "# What is this? * a *" in text
    assert "> What is this?\n> * a *" in text
    assert "A *crimson* thing" in text
    assert "![b|\\[x\\](y).png](my%20chat%20%281%29_pictures/" in text
    assert done.images
    assert len(list(done.images.iterdir())) == 3
    assert "(not shown to the model)" in text


def test_json_has_every_branch_and_the_settings(chat: SavedChat, history: History, tmp_path: Path) -> None:
    done = export(chat, "json", tmp_path / "chat.json", history.read_image)
    written = json.loads(done.file.read_text())
    assert written == as_json(chat)
    assert (len(written["messages"]), len(written["shown"]), written["settings"]["seed"]) == (7, 6, 3)
    assert written["messages"][0]["pictures"][1]["shown"] is False
    with pytest.raises(UsageError, match="already exists"):
        export(chat, "json", tmp_path / "chat.json", history.read_image)


def test_a_missing_image_is_reported(chat: SavedChat, tmp_path: Path) -> None:
    def find(image: SavedImage) -> bytes:
        raise ImageError(f"{image.name}: the file is missing", "Attach it again.")

    assert "cat.png: the image is missing" in markdown(chat, {})
    done = export(chat, "html", tmp_path / "chat.html", find)
    assert done.missing == ("cat.png: the file is missing", "b|[x](y).png: the file is missing")
    assert "the image is missing" in done.file.read_text()
    with pytest.raises(ImageError):
        export(chat, "llava", tmp_path / "train.json", find)
