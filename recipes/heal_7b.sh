#!/bin/sh
# From a search to a cheaper model, for a model of seven billion parameters on one GPU:
# search -> best plan -> heal -> export -> check. Texts are a file of your own; options behind it
# are for the adapters.
#
# The same commands on the bundled model, to see them through in minutes on a CPU:
#   impasto studies demo_texts.txt --to demo_texts.txt
#   MODEL=demo SEARCH=thinner TASK=capitals DEVICE=cpu RUNS=runs/dry \
#     sh recipes/heal_7b.sh demo_texts.txt --set length=64 --set steps=40
set -eu
texts=${1:?usage: heal_7b.sh TEXTS.jsonl [OPTION …]}
shift
model=${MODEL:-mistralai/Mistral-7B-v0.1}
task=${TASK:-'{name: arc_easy, num_fewshot: 0}'}
device=${DEVICE:-cuda:0}
runs=${RUNS:-runs/7b}

impasto search "${SEARCH:-recipes/search_7b.yaml}" --model "$model" --out "$runs/search"
plan=$(python -c "import json; print(json.load(open('$runs/search/search/found.json'))['best']['plan'])")

# Without training first: one pass over the texts, and often enough.
impasto heal "$runs/linear" --model "$model" --dtype bfloat16 --device "$device" --plan "$plan" \
  --texts "$texts" --set tokens=400000 --task "$task" --limit 500

# Then adapters, where more is wanted: an hour or two.
impasto heal "$runs/lora" --model "$model" --dtype bfloat16 --device "$device" --plan "$plan" \
  --method lora --texts "$texts" --set tokens=4000000 --set length=1024 --set steps=2000 --set batch=8 \
  --set learning_rate=2e-4 --set gradient_checkpointing=true --set evaluate_every=100 \
  --task "$task" --limit 500 --export "$runs/model" "$@"
