"""What healing writes: a folder that loads, exports, and says what it is."""

import json
import subprocess
import sys
from typing import Any

import pytest
import torch
from test_training import PLAN, SHORT, TEXTS
from typer.testing import CliRunner

import impasto
from impasto import Plan, UserError
from impasto.cli import app
from impasto.healing import Healed
from impasto.plan.healed import HealedPlan, is_digest_of, plan_of_healed

IDS = [[5, 17, 3, 88, 41, 2, 60, 9]]
PLAIN = """
import sys
sys.modules["impasto"] = None
import torch, transformers
for folder in sys.argv[1:]:
    opens = transformers.AutoModelForCausalLM.from_pretrained
    hf = opens(folder + "/out", trust_remote_code=True).eval()
    with torch.no_grad():
        torch.save(hf(torch.tensor({ids})).logits, folder + "/logits.pt")
"""


@torch.no_grad()
def logits(hf, plan: Plan) -> torch.Tensor:
    with impasto.apply(hf, plan):
        return hf(input_ids=torch.tensor(IDS), use_cache=False).logits


def test_what_is_exported_gives_the_healed_plans_logits_without_impasto(tmp_path):
    linear: Any = {"length": 48, "map": "state"}
    few = SHORT | {"steps": 4}
    wanted = {}
    for method, line, form, more in (
        ("linear", "0-4 5.mlp 6-11", "planned", linear),
        ("lora", "0-8", "checkpoint", few),
    ):
        place = tmp_path / method
        healed = impasto.heal("demo", line, TEXTS, method, place / "healed", **more)
        wanted[place] = logits(healed.model.hf, healed.plan)
        assert f"| plan | `{line}` |" in (place / "healed" / "README.md").read_text()
        loaded = impasto.load(place / "healed")
        assert torch.allclose(logits(loaded.hf, healed.plan), wanted[place], atol=1e-5)
        told = CliRunner().invoke(
            app, ["export", str(place / "out"), "--model", str(place / "healed")]
        )
        assert told.exit_code == 0, told.output
        assert (place / "out" / "planned_impasto.py").exists() == (form == "planned")
        card = (place / "out" / "README.md").read_text()
        assert "healed" in card
        assert "nothing was trained" not in card
    code, folders = PLAIN.format(ids=IDS), [str(place) for place in wanted]
    ran = subprocess.run([sys.executable, "-c", code, *folders], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    for place, expected in wanted.items():
        found = torch.load(place / "logits.pt")
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_folder_says_what_was_healed_and_reads_back(tmp_path):
    out = tmp_path / "healed"
    healed = impasto.heal(
        "demo", PLAN, TEXTS, "linear", out, length=48, map="state", tasks=["capitals"], limit=8
    )
    read = Healed.read(out)
    assert (read.plan, read.method, read.measured) == (healed.plan, "linear", healed.measured)
    assert plan_of_healed(out) == Plan.parse(PLAN)
    content = json.loads((out / "healed.json").read_text())
    assert content["base"] == "demo"
    assert set(content["digests"]) == {"plan", "weights", "texts"}
    names = [row[0] for row in healed.table.rows]
    assert names[:3] == ["perplexity", "KL, nats a token", "agreement of the likeliest token"]
    assert "capitals exact_match" in names
    with pytest.raises(UserError, match="exists and is not overwritten"):
        impasto.heal("demo", PLAN, TEXTS, "linear", out, length=48, map="state")


def test_the_command_heals_exports_and_prints_the_table(tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("\n\n".join(text.strip() for text in TEXTS))
    words = ["heal", str(tmp_path / "healed"), "--plan", "0-4 6-11", "--texts", str(texts)]
    words += ["--set", "length=48", "--set", "map=state", "--export", str(tmp_path / "out")]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, told.output
    for part in ("perplexity", "KL, nats a token", "won back", "checked  loaded again"):
        assert part in told.output
    again = CliRunner().invoke(app, [*words[:1], str(tmp_path / "other"), *words[2:]])
    assert again.exit_code == 2
    assert "exists" in again.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--set", "steps"], "NAME=VALUE"),
        (["--set", "lenght=48"], "did you mean 'length'"),
        (["--method", "linaer"], "did you mean 'linear'"),
        (["--task", "capitols"], "capitals"),
        (["--plan", "0-99"], "99"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(words, says, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("\n\n".join(text.strip() for text in TEXTS))
    first = ["heal", str(tmp_path / "healed"), "--plan", "0-4 6-11", "--texts", str(texts)]
    told = CliRunner().invoke(app, [*first, *words])
    assert told.exit_code == 2, told.output
    assert says in told.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts.txt"]


def test_export_without_a_plan_wants_a_healed_folder(tmp_path):
    told = CliRunner().invoke(app, ["export", str(tmp_path / "out")])
    assert told.exit_code == 2
    assert "--plan says what the model is to run" in told.output


def test_a_healed_plan_is_another_cell_than_the_plan():
    plan = Plan.parse("0-4 6-11")
    one, two = (HealedPlan.of(plan, {"method": method}) for method in ("linear", "lora"))
    assert len({plan, one, two, HealedPlan.of(plan, {"method": "lora"})}) == 3
    assert len({plan.digest, one.digest, two.digest}) == 3
    assert str(one) == str(plan)
    assert one.plain == plan
    assert all(is_digest_of(each.digest, plan) for each in (plan, one, two))
    assert not is_digest_of(one.digest, Plan.parse("0-4"))
    assert not is_digest_of(f"{plan.digest}+xyz", plan)


@pytest.mark.parametrize("method", ["linear", "lora"])
def test_a_target_is_held_before_the_model_is_loaded_and_nothing_stays_if_that_fails(
    method, tmp_path, monkeypatch
):
    out, refused = tmp_path / "new" / "healed", []

    def load(*_, **__):
        with pytest.raises(UserError, match=r"is being written to by process .* folder") as error:
            impasto.heal("demo", PLAN, TEXTS, method, out)
        refused.append(str(error.value))
        raise UserError("no such model")

    monkeypatch.setattr("impasto.healing.running.load", load)
    with pytest.raises(UserError, match="no such model"):
        impasto.heal("demo", PLAN, TEXTS, method, out)
    assert len(refused) == 1
    assert "status" not in refused[0]
    assert list(tmp_path.iterdir()) == []
