"""What was exported runs without impasto: in a process that cannot import it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import impasto
from families import FAMILIES, family
from impasto import Plan
from impasto.run import load_decoder

IDS = [5, 17, 3, 88, 41, 2, 60, 9, 33, 71]
WHOLE = ["0-3", "5-0", "0 0 1 1 5", "2*3", "0-1 3-5", "3 1 4 1 5"]
OTHER = [
    "0-2 3-5.mlp",
    "0-3 4-5.attn",
    "0 [1 2 | 3 | 4.mlp]*2 5",
    "0 sum[1.attn | 1.mlp] 2-5",
    "0-1 freeze [2-4]*2 5",
    "0-1 noise(gaussian, keep=1) 2 noise(shuffle, seed=3) 3 freeze 4.mlp 5",
]
REACHING = [
    ("llama", "0-5{first=1, last=2}"),
    ("mistral", "0-2{first=1} freeze [3{first=1}|4{last=3}] 5{first=2, last=1}"),
    ("bloom", "0-1 noise(shuffle) 2-4{last=2} 5.attn{first=1}@0.5"),
    ("gemma3", "0 (1-4{first=2, last=3})*2 freeze 5{first=1}"),
]
TWELVE = [Plan.parse(line, layers=6) for line in WHOLE + OTHER]
FIVE = ["llama", "gpt2", "gpt_neox", "gemma3", "bloom"]
COUNT = 5


def check(pairs, folder):
    """Export each plan on its family, and compare what a process without impasto makes of it."""
    jobs, wanted = [], []
    for number, (name, plan) in enumerate(pairs):
        model = load_decoder(family(name))
        place = folder / str(number)
        done = impasto.export(model, plan, place)
        ids = torch.tensor([IDS])
        with torch.no_grad(), impasto.apply(model.hf, plan):
            logits = model.hf(input_ids=ids, use_cache=False).logits[0].clone()
        jobs.append((str(place), done.form == "planned", ids, logits, COUNT))
        wanted.append(model.generate(plan, [IDS], max_new_tokens=COUNT)[0][0])
    torch.save(jobs, folder / "jobs.pt")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env |= {"HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, Path(__file__).with_name("reload.py"), folder / "jobs.pt"],
        capture_output=True, text=True, env=env, cwd=folder, timeout=600,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    found = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    assert len(found) == len(pairs)
    for (name, plan), own, told in zip(pairs, wanted, found, strict=True):
        assert told["difference"] < 1e-5, (name, str(plan))
        assert told["written"] == [own, own], (name, str(plan))


@pytest.mark.slow
def test_twelve_plans_run_without_impasto_each_on_one_of_five_families(tmp_path):
    check([(FIVE[k % 5], plan) for k, plan in enumerate(TWELVE)], tmp_path)


def test_attention_sees_as_little_without_impasto(tmp_path):
    check([(name, Plan.parse(line)) for name, line in REACHING], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", FIVE)
def test_twelve_plans_of_a_family_run_without_impasto(name, tmp_path):
    check([(name, plan) for plan in TWELVE], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("plan", [TWELVE[5], TWELVE[8], TWELVE[11]], ids=str)
def test_every_family_runs_without_impasto(plan, tmp_path):
    check([(name, plan) for name in FAMILIES], tmp_path)
