#!/usr/bin/env bash
# Train tiny-llava from scratch: examples/runs/tiny.sh [OUT]
#
# The stages, with sizes, minutes on two cores and results of the run that made the bundled model. Sources: its card
# (mlx_llava/embedded/tiny-llava-hf/README.md) and docs/log.md. Accuracies are on 500 held-out scenes.
#   (0) data       24,000 scenes and their conversations                  3 min
#   (1) CLIP       1,800 steps of 48 images                              20 min  93 % of the nouns right
#   (2) language   24,000 text-only conversations, 750 steps             30 min, in parallel with (1)
#   (3) stage 1    the projector: 6,000 captions, 188 steps               4 min
#   (4) stage 2    the language model and the projector, in four legs:
#         leg 1    24,000 conversations, 1,000 steps                     38 min  shape 72 %, count 75
#         leg 2    60,000 more, 2,500 steps                              95 min  shape 86.8 %, count 88.0, position 73.8
#         leg 3    37,500 more and 6,500 text-only, 1,834 steps          69 min  shape 90.4 %, count 91.0, position 89.5
#         leg 4    20,000 more and 3,500 text-only, 980 steps            38 min  shape 91.2 %, count 91.0, position 93.0
#   (5) export     llava-hf format; scores: color 98.2 %, existence 97.8, size 97.3, reasoning 88.6, relation 67.2
#
# QUICK=1 takes about 6 minutes, with one thing per image: it proves that every stage runs and learns, but the model
# is not useful. After an interruption, the same command continues with the unfinished stage, and training with its
# last snapshot.
set -euo pipefail
cd "$(dirname "$0")/../.."
OUT=${1:-out/tiny-run}
PYTHON=${PYTHON:-.venv/bin/python}
TINY="$PYTHON examples/tiny"
WORLD="" TURNS="" BATCH="" ANSWERS=""
if [[ -n ${QUICK:-} ]]; then
    WORLD="--things 1" TURNS="--turns 3" BATCH="--batch-size 8" ANSWERS="--max-tokens 24"
fi
mkdir -p "$OUT"
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT

# size FULL QUICK: a size for this run.
size() { [[ -n ${QUICK:-} ]] && echo "$2" || echo "$1"; }

# once FILE COMMAND…: run the command, which makes the file or folder, unless an earlier run has finished it.
once() { [[ -e $1.done ]] || { "${@:2}" && touch "$1.done"; }; }

# finetune NAME MODEL DATA [FLAG…]: one leg of stage 2.
finetune() {
    once "$OUT/$1" $PYTHON -m mlx_llava.finetune --recipe tiny_finetune --model "$OUT/$2" --mlx-path "$OUT/$1" \
        --data "$OUT/train/$3.json" --images "$OUT/train/pictures" $BATCH "${@:4}"
}

# (0) Scenes as images with COCO's captions and boxes; then the data of every stage, and a tokenizer of 640 tokens.
once "$OUT/train" $TINY/draw.py "$OUT/train" --scenes $(size 24000 1600) --seed 1 $WORLD
once "$OUT/test" $TINY/draw.py "$OUT/test" --scenes $(size 500 40) --seed 2 $WORLD
once "$OUT/unseen" $TINY/draw.py "$OUT/unseen" --scenes $(size 500 40) --seed 3 $WORLD --held-out
for part in test unseen; do $TINY/instruct.py "$OUT/$part" $TURNS; done
$TINY/instruct.py "$OUT/train" $TURNS --more $(size "60000 37500 20000" "300 250 250")
$TINY/words.py "$OUT/text.json" --scenes $(size 24000 1600) $WORLD $TURNS
# The six pairs of color and shape that no training image shows occur in legs 3 and 4, in text only.
leg3=$OUT/train/finetune-3.json leg4=$OUT/train/finetune-4.json
$TINY/words.py "$leg3" --after "$leg3" --held-out --scenes $(size 6500 40) --seed 4 $WORLD $TURNS
$TINY/words.py "$leg4" --after "$leg4" --held-out --scenes $(size 3500 40) --seed 5 $WORLD $TURNS
$TINY/tokenizer.py "$OUT" "$OUT/text.json"

# (1) CLIP by InfoNCE, in the background: it needs nothing of (2), and each takes one core.
once "$OUT/clip" $TINY/clip.py "$OUT/clip" "$OUT/train" --tokenizer "$OUT/tokenizer.json" \
    --steps $(size 1800 120) --batch-size $(size 48 32) &

# (2) The language model, on text alone.
once "$OUT/blank" $TINY/assemble.py "$OUT/blank" --tokenizer "$OUT/tokenizer.json"
once "$OUT/text" $PYTHON -m mlx_llava.finetune --recipe tiny_text --model "$OUT/blank" --data "$OUT/text.json" \
    --mlx-path "$OUT/text" $BATCH
wait $!

# (3) Stage 1: the projector between the two.
once "$OUT/base" $TINY/assemble.py "$OUT/base" --tokenizer "$OUT/tokenizer.json" --clip "$OUT/clip" \
    --language "$OUT/text"
once "$OUT/projector" $PYTHON -m mlx_llava.pretrain --recipe tiny_pretrain --model "$OUT/base" \
    --data "$OUT/train/pretrain.json" --images "$OUT/train/pictures" --adapter-path "$OUT/projector" $BATCH

# (4) Stage 2: the language model and the projector. Each leg has new conversations; the later ones start at half the
# learning rate, because at the full one the loss rose and stayed up. Then the data of leg 1 once more, with LoRA.
LATER="--learning-rate 5e-4 --warmup-ratio 0.02"
finetune leg1 base finetune --projector "$OUT/projector"
finetune leg2 leg1 finetune-2 $LATER
finetune leg3 leg2 finetune-3 $LATER
finetune leg4 leg3 finetune-4 $LATER
once "$OUT/adapters" $PYTHON -m mlx_llava.lora --recipe tiny_lora --model "$OUT/base" --projector "$OUT/projector" \
    --data "$OUT/train/finetune.json" --images "$OUT/train/pictures" --adapter-path "$OUT/adapters" $BATCH

# (5) Export in llava-hf format, score the answers, and check that every stage has learned.
once "$OUT/llava-hf" $PYTHON -m mlx_llava.export --model "$OUT/leg4" --hf-path "$OUT/llava-hf" --dtype float16
for part in test unseen; do
    $PYTHON -m mlx_llava.ask --model "$OUT/leg4" --questions "$OUT/$part/questions.jsonl" --batch-size 64 \
        --image-folder "$OUT/$part/pictures" --answers "$OUT/$part-answers.jsonl" $ANSWERS
    $TINY/score.py "$OUT/$part/questions.jsonl" "$OUT/$part-answers.jsonl" | tee "$OUT/$part-score.md"
done
$TINY/prove.py "$OUT"
