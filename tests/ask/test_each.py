"""`ask --each`: the same question about each of many images."""

import json
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from asking import ANSWER, DESCRIBE, ONE, QUESTION, THREE, Run

from mlx_llava.errors import UsageError
from mlx_llava.images import fetch


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("b.png", "a.PNG", "._a.png", "notes.md"):
        (folder / name).write_bytes(ONE.read_bytes())
    (folder / "cut.png").write_bytes(ONE.read_bytes()[:200])
    (folder / "below").mkdir()
    (folder / "below" / "c.png").write_bytes(THREE.read_bytes())
    return folder


def names_of(lines: str) -> list[str]:
    return [Path(json.loads(line)["path"]).name for line in lines.splitlines()]


def test_each_image_is_asked_about_alone_with_one_line_each(run: Run, photos: Path) -> None:
    code, out, err = run("--each", photos, QUESTION, "--batch-size", "2")
    assert (code, names_of(out)) == (6, ["a.PNG", "b.png", "cut.png"])
    first, second, cut = map(json.loads, out.splitlines())
    assert first["text"] == second["text"] == ANSWER
    assert "cut.png" in cut["error"]
    assert "3 of 3 done, 1 failed" in err
    twice = photos / "below" / ".." / "b.png"
    assert names_of(run("--each", photos / "**" / "[bc].png", twice, QUESTION)[1]) == ["b.png", "c.png"]


def test_answers_about_each_image_continue_by_path_and_question(run: Run, photos: Path, tmp_path: Path) -> None:
    answers = ("--answers", tmp_path / "a.jsonl")
    assert run("--each", photos, QUESTION, *answers)[0] == 6
    (photos / "cut.png").write_bytes(THREE.read_bytes())
    code, out, err = run("--each", photos, QUESTION, *answers)
    assert (code, out) == (0, "")
    assert "1 of 3 images" in err
    run("--each", photos, DESCRIBE, *answers, "--max-tokens", "2")
    assert names_of((tmp_path / "a.jsonl").read_text()) == [
        "a.PNG",
        "b.png",
        "cut.png",
        "cut.png",
        "a.PNG",
        "b.png",
        "cut.png",
    ]
    run("--each", photos, QUESTION, *answers, "--write-captions")  # from the recorded answers
    assert (photos / "a.txt").read_text() == f"{ANSWER}\n"


class PhotoHandler(SimpleHTTPRequestHandler):
    """Serves an image, whatever is asked for."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(ONE.read_bytes())

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_images_are_fetched_from_addresses(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "is_public", lambda address, local: address == "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), PhotoHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/photo.png"
        assert run(url, QUESTION) == (0, f"{ANSWER}\n", "")
        code, out, _ = run("--each", url, QUESTION)
        server.shutdown()
    assert (code, [(row["path"], row["text"]) for row in map(json.loads, out.splitlines())]) == (0, [(url, ANSWER)])


def test_captions_are_written_beside_images_and_never_over_a_file(run: Run, photos: Path) -> None:
    (photos / "b.txt").write_text("mine")
    code, _, err = run("--each", photos, QUESTION, "--write-captions")
    assert (code, err.splitlines()[0]) == (6, "1 image has a caption file, which is left as it is")
    assert (photos / "a.txt").read_text() == f"{ANSWER}\n"
    assert (photos / "b.txt").read_text() == "mine"
    assert not (photos / "cut.txt").exists()
    assert "1 of 3 images" in run("--each", photos, QUESTION, "--write-captions")[2]
    (photos / "9\u202fPM.png").write_bytes(ONE.read_bytes())
    assert run("--each", photos / "9 PM.png", QUESTION, "--write-captions")[0] == 0
    assert (photos / "9\u202fPM.txt").read_text() == f"{ANSWER}\n"
    (photos / "b.jpg").write_bytes(ONE.read_bytes())
    with pytest.raises(UsageError, match="the same caption file"):
        run("--each", photos, QUESTION, "--write-captions")
    with pytest.raises(UsageError, match="not a suffix for captions"):
        run("--each", photos / "a.PNG", QUESTION, "--write-captions", ".png")
