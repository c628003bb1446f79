"""A SentencePiece model becomes a tokenizer.json with the same tokens, and nothing else passes for one."""

import json
import random
import shutil
from pathlib import Path

import pytest
from checkpoints import arrays, converted, save
from sentencepiece import SentencePieceTrainer
from transformers import LlamaTokenizer

from mlx_llava.checkpoint.folder import load
from mlx_llava.convert.job import prepare
from mlx_llava.convert.options import ConvertOptions
from mlx_llava.errors import CheckpointError, LlavaError
from mlx_llava.prompts.templates import Text

WORDS = "the cat sat on a mat and saw red blue green circles squares human artificial intelligence picture".split()
TEXTS = ("the cat sat", "two  spaces", "a\nline", "Äpfel, 梨 €", "USER: What? ASSISTANT:", "")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models of two kinds, as LLaMA's was trained and as T5's was."""
    folder = tmp_path_factory.mktemp("sentencepiece")
    draw = random.Random(0)
    (folder / "text").write_text("\n".join(" ".join(draw.choices(WORDS, k=12)) for _ in range(300)))
    for kind in ("bpe", "unigram"):
        SentencePieceTrainer.Train(
            input=str(folder / "text"),
            model_prefix=str(folder / kind),
            vocab_size=297,
            model_type=kind,
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            minloglevel=2,
        )
    return folder


def source_with(model: Path, folder: Path) -> Path:
    """A checkpoint that has a tokenizer.model alone."""
    save(folder, arrays())
    (folder / "tokenizer.json").unlink()
    shutil.copy(model, folder / "tokenizer.model")
    return folder


@pytest.mark.parametrize("legacy", [None, True, False])
def test_a_sentencepiece_model_gives_the_tokens_of_transformers(
    legacy: bool | None, trained: Path, tmp_path: Path
) -> None:
    source = source_with(trained / "bpe.model", tmp_path / "source")
    if legacy is not None:
        (source / "tokenizer_config.json").write_text(json.dumps({"legacy": legacy, "add_bos_token": True}))
    ours = load(converted(source, tmp_path / "out")).tokenizer
    theirs = LlamaTokenizer.from_pretrained(source)
    for text in TEXTS:
        ids = ours.encode([Text(text)], ()).tokens.tolist()
        assert ids == [1, *theirs.encode(text, add_special_tokens=False)]
        assert ours.decode(ids) == text
    spec, wanted = json.loads((tmp_path / "out" / "tokenizer.json").read_text()), theirs.backend_tokenizer.to_str()
    assert spec["pre_tokenizer"] == json.loads(wanted)["pre_tokenizer"]  # spaces after `</s>` depend on it


def refusal(source: Path, tmp_path: Path) -> LlavaError:
    with pytest.raises(CheckpointError) as caught:
        prepare(ConvertOptions(hf_path=str(source), mlx_path=tmp_path / "out"))
    return caught.value


def test_a_sentencepiece_model_of_another_kind_is_refused(trained: Path, tmp_path: Path) -> None:
    source = source_with(trained / "unigram.model", tmp_path / "source")
    assert "not a LLaMA tokenizer" in refusal(source, tmp_path).problem


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1", bytes(range(256)), None])
def test_a_damaged_sentencepiece_model_is_refused_quietly(
    content: bytes | None, trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = source_with(trained / "bpe.model", tmp_path / "source")
    whole = (source / "tokenizer.model").read_bytes()
    (source / "tokenizer.model").write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert refusal(source, tmp_path).problem == f"{source}/tokenizer.model: not a SentencePiece model"
    assert capfd.readouterr() == ("", "")
