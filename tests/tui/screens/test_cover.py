"""A part of a picture covered: where it lies, what is asked, what is shown."""

from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from screen import on_loop, running
from scripted import FACTS, ScriptedWorker
from spine import EMBEDDED

from mlx_llava.config import CLIP_MEAN, CLIP_STD, Fit, ImageConfig
from mlx_llava.embedded import load_embedded
from mlx_llava.engine.messages import Load
from mlx_llava.engine.worker import ModelWorker
from mlx_llava.errors import UsageError
from mlx_llava.images.image import Image
from mlx_llava.images.pixels import crop
from mlx_llava.inference.chat import Chat
from mlx_llava.tui.images import eyes
from mlx_llava.tui.images.attachments import from_bytes
from mlx_llava.tui.images.cover import Patches, cover_box, mean_color
from mlx_llava.tui.screens.cover import CoverScreen
from mlx_llava.tui.session import commands
from mlx_llava.tui.widgets.image_view import ImageView

SCENE = EMBEDDED / "examples" / "two_shapes_wide.png"
OTHER = EMBEDDED / "examples" / "three_shapes.png"


def plain(size: tuple[int, int]) -> bytes:
    file = BytesIO()
    PIL.Image.new("RGB", size, "#ff0000").save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("fit", ["pad", "crop"])
@pytest.mark.parametrize("size", [(96, 96), (240, 96), (96, 240)])
def test_the_tower_sees_nothing_in_the_covered_patches_and_the_rest_as_before(size: tuple[int, int], fit: Fit) -> None:
    image, patches = from_bytes(plain(size), "red"), Patches(6, 1, 2, 4, 5)
    config = ImageConfig(side=96, fit=fit, mean=CLIP_MEAN, std=CLIP_STD)
    before = crop(image.preview, config)
    other = cover_box(image, patches.box(size, fit), mean_color(CLIP_MEAN))
    after = crop(PIL.Image.open(BytesIO(other.file.data)), config)
    inside = np.zeros((96, 96), bool)
    inside[16:64, 32:80] = True
    padding = np.abs(before).max(axis=-1) < 0.02  # of the mean's colour in whole numbers; there is nothing to cover
    # Bicubic resizing reaches two pixels of the larger picture past an edge: within three of the smaller one.
    near = np.zeros_like(inside)
    near[13:67, 29:83] = True
    near[19:61, 35:77] = False
    assert np.abs(after[inside & ~near]).max() < 0.02
    np.testing.assert_allclose(after[~inside & ~near], before[~inside & ~near], atol=1e-6)
    assert not padding[inside & ~near].all()


def test_a_rectangle_stays_in_the_square_and_keeps_a_patch() -> None:
    patches = Patches(6, 2, 2, 4, 4)
    assert patches.moved(-9, 9) == Patches(6, 0, 4, 2, 6)
    assert patches.grown(9, -9) == Patches(6, 2, 2, 6, 3)


@on_loop
async def test_a_covered_picture_is_asked_about_beside_the_whole_one() -> None:
    worker = ScriptedWorker(lambda ask: f"answer {ask.number} in words")
    async with running(worker, images=(SCENE,), size=(100, 30)) as driver:
        await driver.until(lambda: driver.session.engine.usage)
        with pytest.raises(UsageError, match="no question about"):
            commands.run(driver.session, "/cover 1")
        await driver.ask("What?")
        first = driver.session.conversation.tip
        await driver.pilot.press("f3")
        await driver.shows("c cover a part")
        await driver.pilot.press("c")
        await driver.shows("Enter cover, ask again")
        await driver.pilot.press("right", "J", "enter")
        await driver.shows("the answers differ")
        assert driver.session.comparison is not None
        for told in ("original", "picture 1 covered", first.text, driver.session.comparison.right.text):
            assert told in driver.text()
        asked = worker.questions[-1].exchanges[-1]
        assert asked.question == "What?"
        pil_image = PIL.Image.open(BytesIO(asked.images[0].data))
        assert pil_image.size == PIL.Image.open(SCENE).size
        assert pil_image.getpixel((80, 60)) == mean_color(FACTS.mean)
        await driver.pilot.press("escape")
        await driver.shows("‹1/2›")  # the other question is a branch
        assert driver.session.conversation.tip is first


@on_loop
async def test_a_rectangle_is_marked_with_the_mouse() -> None:
    async with running(ScriptedWorker(), images=(SCENE,), size=(100, 40)) as driver:
        await driver.until(lambda: driver.session.engine.usage)
        await driver.ask("What?")
        await driver.type("/cover", "enter")
        await driver.shows("Enter cover, ask again")
        screen = driver.app.screen
        assert isinstance(screen, CoverScreen)
        view = screen.query_one(ImageView)
        columns, rows = view.content_region.size
        left, high = (columns - 2 * rows) // 2, rows  # a square is twice as many columns as rows
        for moved, place in (("down", (left + 3 * high // 2, high // 4)), ("move", (left + high // 2, high // 2))):
            act = driver.pilot.mouse_down if moved == "down" else driver.pilot.hover
            assert await act(view, offset=place)
        patches = screen.patches
        assert (patches.left, patches.right) == (6, 19)
        assert patches.top in (5, 6)
        assert patches.bottom in (12, 13)
        await driver.pilot.mouse_up(view)
        await driver.pilot.hover(view, offset=(0, 0))
        assert screen.patches == patches


@on_loop
async def test_what_was_said_since_the_picture_came_is_said_again() -> None:
    worker = ScriptedWorker(lambda ask: f"answer to {ask.exchanges[-1].question}")
    async with running(worker, images=(SCENE,), size=(100, 30)) as driver:
        await driver.until(lambda: driver.session.engine.usage)
        await driver.ask("one?")
        driver.app.chat.composer.attach([OTHER])
        await driver.until(lambda: len(driver.session.images()) == 2)
        await driver.ask("two?")
        last = driver.session.conversation.tip
        await driver.type("/cover 1", "enter")
        await driver.shows("Enter cover, ask again")
        await driver.pilot.press("enter")
        await driver.until(lambda: len(worker.questions) == 3 and not driver.session.comparing)
        before, after = worker.questions[1].exchanges, worker.questions[2].exchanges
        assert [e.question for e in after] == [e.question for e in before] == ["one?", "two?"]
        assert after[0].answer == before[0].answer
        assert after[1] == before[1]
        assert after[0].images[0].name == "two_shapes_wide.png, covered"
        assert driver.session.conversation.tip is last
        chat = driver.session.record.open(driver.session.record.chat or 0)
        assert [node.text for node in chat.path()] == [node.text for node in driver.session.conversation.path()]
        assert len(chat.root.children) == 2


@on_loop
async def test_what_cannot_be_covered_is_told_of() -> None:
    worker = ScriptedWorker()
    async with running(worker, images=(SCENE,), size=(100, 30)) as driver:
        await driver.until(lambda: driver.session.engine.usage)
        await driver.ask("What?")
        await driver.type("/off 1", "enter")
        with pytest.raises(UsageError, match="picture 1 is off"):
            commands.run(driver.session, "/cover")
        await driver.type("/on 1", "enter")
        await driver.type("/cover", "enter")
        await driver.shows("Enter cover, ask again")
        await driver.pilot.press(*["up"] * 12, *["K"] * 10, "enter")
        await driver.shows("there is only padding")
        shown, model = driver.session.image(1), driver.session.model
        assert model is not None
        await driver.type("/new", "enter")
        await driver.ask("Something else?")
        driver.app.chat.cover_and_ask(shown, model, Patches(24, 8, 8, 16, 16))
        await driver.shows("no longer in this chat")
        assert len(worker.questions) == len(driver.session.conversation.path()) == 2


@on_loop
async def test_a_real_model_sees_nothing_of_what_is_covered(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_LLAVA_HOME", str(home))
    async with running(ModelWorker, Load(), (OTHER,), size=(100, 30)) as driver:
        await driver.until(lambda: driver.session.model)
        await driver.ask("Describe the picture.")
        model = driver.session.model
        assert model is not None
        shown, whole = driver.session.image(1), Patches(model.patches, 0, 0, model.patches, model.patches)
        driver.app.chat.cover_and_ask(shown, eyes.with_fit(model, None), whole)
        await driver.until(lambda: driver.session.comparison and not driver.session.comparing)
        comparison = driver.session.comparison
        assert comparison is not None
        chat, nothing = Chat(load_embedded()), BytesIO()
        PIL.Image.new("RGB", shown.image.size, mean_color(model.mean)).save(nothing, "PNG")
        image = Image.open(nothing.getvalue(), "nothing")
        said = "".join(piece.text for piece in chat.ask("Describe the picture.", [image]))
        assert comparison.right.text == said != comparison.left.text
