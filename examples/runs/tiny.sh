#!/usr/bin/env bash
# A small LLaVA, made from nothing: examples/runs/tiny.sh [OUT]
# QUICK=1 takes some minutes, in a world with one thing in each picture: it proves the stages, the model is not worth
# asking. Interrupted, the same command goes on with the stage that was not done, tuning from its last snapshot.
set -euo pipefail
cd "$(dirname "$0")/../.."
OUT=${1:-out/tiny-run}
PYTHON=${PYTHON:-.venv/bin/python}
TINY="$PYTHON examples/tiny"
mkdir -p "$OUT"
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT

if [[ -n ${QUICK:-} ]]; then
    SCENES=1600 HELD=40 MORE="300 250 250" WORDS=(40 40)
    WORLD="--things 1" TALK="--turns 3" CLIP="--steps 120 --batch-size 32" BATCH="--batch-size 8"
    ANSWERS="--max-tokens 24"
else
    SCENES=24000 HELD=500 MORE="60000 37500 20000" WORDS=(6500 3500)
    WORLD="" TALK="" CLIP="--steps 1800 --batch-size 48" BATCH="" ANSWERS=""
fi

# once FILE COMMAND…: unless the command, which makes the file or folder, has come to its end before.
once() {
    [[ -e $1.done ]] || { "${@:2}" && touch "$1.done"; }
}

# (0) Scenes, their captions and boxes as COCO has them, and from these the data of every stage.
once "$OUT/train" $TINY/draw.py "$OUT/train" --scenes $SCENES --seed 1 $WORLD
once "$OUT/test" $TINY/draw.py "$OUT/test" --scenes $HELD --seed 2 $WORLD
once "$OUT/unseen" $TINY/draw.py "$OUT/unseen" --scenes $HELD --seed 3 $WORLD --held-out
for part in test unseen; do $TINY/instruct.py "$OUT/$part" $TALK; done
$TINY/instruct.py "$OUT/train" $TALK --more $MORE
$TINY/words.py "$OUT/text.json" --scenes $SCENES $WORLD $TALK
for leg in 3 4; do
    more=$OUT/train/finetune-$leg.json
    $TINY/words.py "$more" --beside "$more" --held-out --scenes ${WORDS[leg - 3]} --seed $((leg + 1)) $WORLD $TALK
done
$TINY/tokenizer.py "$OUT" "$OUT/text.json"

# (1) CLIP by InfoNCE, and (2) Vicuna on text alone. Neither knows of the other: a core each.
once "$OUT/clip" $TINY/clip.py "$OUT/clip" "$OUT/train" --tokenizer "$OUT/tokenizer.json" $CLIP &
once "$OUT/blank" $TINY/assemble.py "$OUT/blank" --tokenizer "$OUT/tokenizer.json"
once "$OUT/text" $PYTHON -m mlx_llava.finetune --recipe tiny_text --model "$OUT/blank" --data "$OUT/text.json" \
    --mlx-path "$OUT/text" $BATCH
wait $!

# (3) Stage 1: the projector between them.
once "$OUT/base" $TINY/assemble.py "$OUT/base" --tokenizer "$OUT/tokenizer.json" --clip "$OUT/clip" \
    --language "$OUT/text"
once "$OUT/projector" $PYTHON -m mlx_llava.pretrain --recipe tiny_pretrain --model "$OUT/base" \
    --data "$OUT/train/pretrain.json" --images "$OUT/train/pictures" --adapter-path "$OUT/projector" $BATCH

# (4) Stage 2: Vicuna and projector, in four legs, each with other conversations, the later ones with smaller steps; in
# the last two, words alone tell of the pairs of colour and shape that no picture shows. And leg 1 with adapters.
once "$OUT/leg1" $PYTHON -m mlx_llava.finetune --recipe tiny_finetune --model "$OUT/base" \
    --projector "$OUT/projector" --data "$OUT/train/finetune.json" --images "$OUT/train/pictures" \
    --mlx-path "$OUT/leg1" $BATCH
for leg in 2 3 4; do
    once "$OUT/leg$leg" $PYTHON -m mlx_llava.finetune --recipe tiny_finetune --model "$OUT/leg$((leg - 1))" \
        --learning-rate 5e-4 --warmup-ratio 0.02 --data "$OUT/train/finetune-$leg.json" \
        --images "$OUT/train/pictures" --mlx-path "$OUT/leg$leg" $BATCH
done
once "$OUT/adapters" $PYTHON -m mlx_llava.lora --recipe tiny_lora --model "$OUT/base" --projector "$OUT/projector" \
    --data "$OUT/train/finetune.json" --images "$OUT/train/pictures" --adapter-path "$OUT/adapters" $BATCH

# (5) In llava-hf's layout, and how many answers are right.
once "$OUT/llava-hf" $PYTHON -m mlx_llava.export --model "$OUT/leg4" --hf-path "$OUT/llava-hf" --dtype float16
for part in test unseen; do
    $PYTHON -m mlx_llava.ask --model "$OUT/leg4" --questions "$OUT/$part/questions.jsonl" --batch-size 64 \
        --image-folder "$OUT/$part/pictures" --answers "$OUT/$part-answers.jsonl" $ANSWERS
    $TINY/score.py "$OUT/$part/questions.jsonl" "$OUT/$part-answers.jsonl" | tee "$OUT/$part-score.md"
done
$TINY/prove.py "$OUT"
