#!/usr/bin/env bash
# A small LLaVA, made from nothing: examples/runs/tiny.sh [OUT]
# QUICK=1 takes some minutes and runs every stage, but makes no model worth asking.
set -euo pipefail
cd "$(dirname "$0")/../.."
OUT=${1:-out/tiny-run}
PYTHON=${PYTHON:-.venv/bin/python}
TINY="$PYTHON examples/tiny"
mkdir -p "$OUT"

if [[ -n ${QUICK:-} ]]; then
    SCENES=1600 HELD=40 TALK="--turns 3" ROUNDS=1 CLIP="--steps 120 --batch-size 32" BATCH="--batch-size 8"
else
    SCENES=24000 HELD=500 TALK="" ROUNDS=4 CLIP="--steps 1800 --batch-size 48" BATCH=""
fi

# (0) Scenes, their captions and boxes as COCO has them, and from these the data of every stage.
$TINY/draw.py "$OUT/train" --scenes $SCENES --seed 1
$TINY/draw.py "$OUT/test" --scenes $HELD --seed 2
$TINY/draw.py "$OUT/unseen" --scenes $HELD --seed 3 --held-out
for part in train test unseen; do $TINY/instruct.py "$OUT/$part" --rounds $ROUNDS $TALK; done
$TINY/words.py "$OUT/text.json" --scenes $SCENES $TALK
$TINY/tokenizer.py "$OUT" "$OUT/text.json"

# (1) CLIP by InfoNCE, and (2) Vicuna on text alone. Neither knows of the other: a core each.
$TINY/clip.py "$OUT/clip" "$OUT/train" --tokenizer "$OUT/tokenizer.json" $CLIP &
$TINY/assemble.py "$OUT/blank" --tokenizer "$OUT/tokenizer.json"
$PYTHON -m mlx_llava.finetune --recipe tiny_text --model "$OUT/blank" --data "$OUT/text.json" --mlx-path "$OUT/text" \
    $BATCH
wait $!

# (3) Stage 1: the projector between them.
$TINY/assemble.py "$OUT/base" --tokenizer "$OUT/tokenizer.json" --clip "$OUT/clip" --language "$OUT/text"
$PYTHON -m mlx_llava.pretrain --recipe tiny_pretrain --model "$OUT/base" --data "$OUT/train/pretrain.json" \
    --images "$OUT/train/pictures" --adapter-path "$OUT/projector" $BATCH

# (4) Stage 2: Vicuna and projector; and the same with adapters.
$PYTHON -m mlx_llava.finetune --recipe tiny_finetune --model "$OUT/base" --projector "$OUT/projector" \
    --data "$OUT/train/finetune.json" --images "$OUT/train/pictures" --mlx-path "$OUT/model" $BATCH
$PYTHON -m mlx_llava.lora --recipe tiny_lora --model "$OUT/base" --projector "$OUT/projector" \
    --data "$OUT/train/finetune.json" --images "$OUT/train/pictures" --adapter-path "$OUT/adapters" $BATCH

# (5) In llava-hf's layout, and how many answers are right.
$PYTHON -m mlx_llava.export --model "$OUT/model" --hf-path "$OUT/llava-hf" --dtype float16
for part in test unseen; do
    $PYTHON -m mlx_llava.ask --model "$OUT/model" --questions "$OUT/$part/questions.jsonl" \
        --image-folder "$OUT/$part/pictures" --answers "$OUT/$part-answers.jsonl"
    $TINY/score.py "$OUT/$part/questions.jsonl" "$OUT/$part-answers.jsonl" | tee "$OUT/$part-score.md"
done
$TINY/prove.py "$OUT"
