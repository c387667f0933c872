#!/bin/sh
# From a search to a cheaper model, for a model of seven billion parameters on one GPU:
# search -> best plan -> heal -> export -> check. Texts are a file of your own.
set -eu
texts=${1:?usage: heal_7b.sh TEXTS.jsonl}
model=mistralai/Mistral-7B-v0.1

impasto search recipes/search_7b.yaml --out runs/search_7b
plan=$(python -c "import json; print(json.load(open('runs/search_7b/search/found.json'))['best']['plan'])")

# Without training first: minutes, and often enough.
impasto heal runs/linear_7b --model "$model" --dtype bfloat16 --device cuda:0 --plan "$plan" \
  --texts "$texts" --set tokens=400000 --task "{name: arc_easy, num_fewshot: 0}" --limit 500

# Then adapters, where more is wanted: an hour or two.
impasto heal runs/lora_7b --model "$model" --dtype bfloat16 --device cuda:0 --plan "$plan" \
  --method lora --texts "$texts" --set tokens=4000000 --set length=1024 --set steps=2000 --set batch=8 \
  --set learning_rate=2e-4 --set gradient_checkpointing=true --set evaluate_every=100 \
  --task "{name: arc_easy, num_fewshot: 0}" --limit 500 --export runs/model_7b
