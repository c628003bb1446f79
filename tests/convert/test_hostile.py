"""Checkpoints that lie: one line what, one line what to do, before a byte is written, and none of their code runs."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoints import CONFIG, TEXT, VISION, arrays, save, save_shards

from mlx_llava.convert.job import prepare
from mlx_llava.convert.options import ConvertOptions
from mlx_llava.errors import LlavaError

INDEX = "model.safetensors.index.json"


def refused(source: Path, tmp_path: Path) -> str:
    """How the converter refuses a checkpoint."""
    with pytest.raises(LlavaError) as caught:
        prepare(ConvertOptions(hf_path=str(source), mlx_path=tmp_path / "out"))
    assert caught.value.problem.count("\n") == caught.value.advice.count("\n") == 0
    assert not (tmp_path / "out").exists()
    return caught.value.problem


def edit_header(source: Path, change: Callable[[dict[str, dict[str, object]]], object]) -> None:
    """Change the header of the weights, and leave the bytes as they are."""
    file = source / "model.safetensors"
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


NORM = "language_model.model.norm.weight"
HEADERS: dict[str, tuple[Callable[[dict[str, dict[str, object]]], object], str]] = {
    "unknown dtype": (lambda h: h[NORM].update(dtype="F8_E4M3"), "dtype F8_E4M3 is not supported"),
    "shape that lies": (lambda h: h[NORM].update(shape=[129]), "needs 516 bytes, the file has 512 for it"),
    "shape that wraps": (lambda h: h[NORM].update(shape=[2**62, 4, 2]), "is too large for any file"),
    "negative shape": (lambda h: h[NORM].update(shape=[-2, -64]), "shape is not a list of"),
    "overlap": (lambda h: h[NORM].update(data_offsets=[0, 512]), "overlaps another"),
    "hole": (lambda h: h.pop(NORM), "follows a gap"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_lies_is_refused(name: str, tmp_path: Path) -> None:
    source = save(tmp_path / "source", arrays())
    change, said = HEADERS[name]
    edit_header(source, change)
    assert said in refused(source, tmp_path)


def test_a_truncated_file_looks_like_an_incomplete_download(tmp_path: Path) -> None:
    source = save(tmp_path / "source", arrays())
    file = source / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert "perhaps an incomplete download" in refused(source, tmp_path)


def test_a_shard_that_is_missing_is_named(tmp_path: Path) -> None:
    source = save_shards(tmp_path / "source", arrays(), 3)
    (source / "model-00002-of-00003.safetensors").unlink()
    assert "model-00002-of-00003.safetensors is missing, perhaps an incomplete download" in refused(source, tmp_path)


@pytest.mark.parametrize(
    "shard", ["../model.safetensors", "/etc/model.safetensors", "sub/model.safetensors", "model.bin"]
)
def test_an_index_names_files_of_its_own_folder_only(shard: str, tmp_path: Path) -> None:
    source = save_shards(tmp_path / "source", arrays(), 1)
    save(tmp_path, arrays())  # what ../ would find
    index = json.loads((source / INDEX).read_text())
    index["weight_map"][NORM] = shard
    (source / INDEX).write_text(json.dumps(index))
    assert "is not in a plainly named .safetensors file" in refused(source, tmp_path)


def test_a_tensor_must_lie_in_the_shard_that_the_index_names(tmp_path: Path) -> None:
    source = save_shards(tmp_path / "source", arrays(), 2)
    index = json.loads((source / INDEX).read_text())
    shards = sorted(set(index["weight_map"].values()))
    index["weight_map"][NORM] = shards[index["weight_map"][NORM] == shards[0]]
    (source / INDEX).write_text(json.dumps(index))
    assert NORM in refused(source, tmp_path)


def test_a_tokenizer_with_more_tokens_than_the_model_has_rows_is_refused(tmp_path: Path) -> None:
    source = save(tmp_path / "source", arrays())
    spec = json.loads((source / "tokenizer.json").read_text())
    spec["added_tokens"].append({**spec["added_tokens"][-1], "id": 576, "content": "<extra>"})
    (source / "tokenizer.json").write_text(json.dumps(spec))
    assert "the tokenizer has 577 tokens, the model 576 rows" in refused(source, tmp_path)


def test_a_checkpoint_without_tokenizer_is_refused(tmp_path: Path) -> None:
    source = save(tmp_path / "source", arrays())
    (source / "tokenizer.json").unlink()
    assert "neither tokenizer.json nor tokenizer.model" in refused(source, tmp_path)


@pytest.mark.parametrize("rest", [{}, {"text_config": {**TEXT, "model_type": "qwen2"}}, {"model_type": "llava_next"}])
def test_a_config_with_code_of_its_own_is_refused_where_we_do_not_know_the_model(
    rest: dict[str, object], tmp_path: Path
) -> None:
    config = {"auto_map": {"AutoModel": "modeling.Model"}, **({**CONFIG, **rest} if rest else {"model_type": "mine"})}
    assert "model_type" in refused(save(tmp_path / "source", arrays(), config), tmp_path)


CODE = "open('MARKER', 'w').write('ran')\n"
ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}"
WATCHED = """
import json, sys
source, target, seen = sys.argv[1], sys.argv[2], []
def watch(event, arguments):
    if event in ("open", "import", "exec", "compile", "os.system", "subprocess.Popen"):
        seen.extend((event, str(a)) for a in arguments if str(a).startswith(source + "/") or source in repr(a)[:500])
sys.addaudithook(watch)
from pathlib import Path
from mlx_llava.checkpoint.folder import load
from mlx_llava.convert.cli import convert
from mlx_llava.convert.options import ConvertOptions
convert(ConvertOptions(hf_path=source, mlx_path=Path(target), quantize=True, q_recipe="mixed_3_6"))
load(Path(target))
print(json.dumps(seen))
"""


def test_no_code_and_no_template_of_a_checkpoint_is_opened(tmp_path: Path) -> None:
    config = {**CONFIG, "model_file": "model.py", "auto_map": {"AutoModel": "modeling.Model"}, "vision_config": VISION}
    source = save(tmp_path / "source", arrays(), config)
    code = CODE.replace("MARKER", str(tmp_path / "marker"))
    for name in ("model.py", "modeling.py", "tokenization.py", "setup.py", "sitecustomize.py", "__init__.py"):
        (source / name).write_text(code)
    (source / "chat_template.jinja").write_text(ENDLESS)
    (source / "chat_template.json").write_text(json.dumps({"chat_template": ENDLESS}))
    (source / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": ENDLESS, "auto_map": {"AutoTokenizer": ["tokenization.T", None]}})
    )
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, source, tmp_path / "out"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    seen = json.loads(done.stdout)
    assert {event for event, _ in seen} == {"open"}
    assert {Path(name).name for _, name in seen} == {"config.json", "model.safetensors", "tokenizer.json"}
    assert not (tmp_path / "marker").exists()
    notes = [line for line in done.stderr.splitlines() if line.startswith("note: ")]
    assert notes == [
        "note: auto_map, model_file in config.json ignored: code in a checkpoint is never run",
        "note: the checkpoint's chat template is ignored; --template chooses one of ours",
    ]
