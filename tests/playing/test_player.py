"""What a page is answered is what the model itself says."""

import json
import shlex
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from urllib.request import urlopen

import pytest
import torch
from typer.testing import CliRunner

import impasto
import tiny
from families import family
from impasto.cli import app
from impasto.error import UserError
from impasto.plan import Plan
from impasto.playing.examples import EXAMPLES, examples_for
from impasto.playing.player import Player
from impasto.run.lens import lens

SUM = "2 + 3 + 4 = 9\n3 + 5 - 1 ="
PLAN = "0-3 [4-5] 7-8 10"


def asked(prompt=SUM, plan=PLAN, **more):
    return {"prompt": prompt, "plan": plan, "tokens": "6", "page": "a", "number": 0, **more}


def test_both_answers_are_the_models_own(player):
    model = player.model
    [base], [own] = model.generate([player.base, Plan.parse(PLAN)], [SUM], 6)
    assert player.write(asked()) == {"prompt": SUM, "base": base, "plan": own}
    assert base != own


def test_the_next_token_and_the_lens_are_the_models_own(player):
    model = player.model
    seen = player.look(asked())
    ids = torch.tensor([model.tokens(SUM)])
    base, own = (
        model.next_logits(plan, ids)[0].log_softmax(-1) for plan in (player.base, Plan.parse(PLAN))
    )
    for token, before, after in seen["next"]:
        [at] = [i for i in range(len(base)) if model.tokenizer.decode([i]) == token]
        assert before == pytest.approx(base[at].exp().item(), abs=1e-5)
        assert after == pytest.approx(own[at].exp().item(), abs=1e-5)
    assert seen["next"][0][1] == pytest.approx(base.exp().max().item(), abs=1e-5)
    apart = torch.nn.functional.kl_div(own, base, reduction="sum", log_target=True)
    assert seen["kl"] == pytest.approx(apart.item(), rel=1e-4)
    assert seen["same"] == bool(base.argmax() == own.argmax())
    [read] = lens(model, Plan.parse(PLAN), [SUM])
    assert seen["plan"]["depths"] == ["embeddings", "0", "1", "2", "3", "[4-5]", "7", "8", "10"]
    assert seen["plan"]["likeliest"] == read.likeliest
    assert len(seen["base"]["likeliest"]) == 13


def test_the_lens_shows_the_last_tokens_of_a_long_prompt(player):
    prompt = "\n".join([SUM] * 3)
    whole = lens(player.model, Plan.parse(PLAN), [prompt])[0]
    seen = player.look(asked(prompt))["plan"]
    assert seen["tokens"] == whole.tokens[-16:]
    assert seen["likeliest"] == [row[-16:] for row in whole.likeliest]


def test_plans_without_a_lens_say_why_and_answer_all_the_same(player):
    seen = player.look(asked(plan="0-5 freeze(prompt) 6-11"))
    assert "prompt alone" in seen["plan"]["note"]
    assert seen["next"]
    many = player.look(asked(plan="0-11*40"))
    assert "400 depths" in many["plan"]["note"]


def test_a_plan_that_injects_takes_its_donor(player):
    question = "Q: What is the capital of {}?\nA:"
    value = asked(
        question.format("France"),
        "inject(donor) 0-11",
        donor=question.format("Italy"),
        donor_span="Italy",
        target_span="France",
    )
    assert player.write(value)["plan"].startswith(" Rome\n")
    assert "Rome" in player.look(value)["next"][0][0]
    value["target_span"] = "Spain"
    assert "occurs 0 times" in player.write(value)["error"]


def test_a_mistake_is_its_message_with_its_place(player):
    said = player.read(asked(plan="0-3 frezze 4"))
    assert "did you mean freeze?" in said["error"]
    assert said["caret"] == "  0-3 frezze 4\n      ^~~~~~"
    assert "this model has layers 0..11" in player.read(asked(plan="12"))["error"]
    assert "at least one item" in player.read(asked(document='{"plan":1,"steps":[]}'))["error"]
    assert "tokens is a whole number" in player.read(asked(tokens="x"))["error"]
    assert "exceed the model's 256 positions" in player.write(asked(tokens="999"))["error"]
    assert player.write(asked(prompt=""))["error"]
    assert "object" in player.read([1])["error"]
    assert "frezze" in player.begin({"address": "?plan=frezze"})["asked"]["plan"]
    assert "tokens is" in player.begin({"address": "?tokens=x"})["mistake"]


def test_every_answer_is_json_without_numbers_that_are_none(player):
    for plan in ("0-11@8*4", "0-5 noise(gaussian) 6-11"):
        for question in (player.read, player.look, player.write):
            json.dumps(question(asked(plan=plan)), allow_nan=False)


def test_what_a_page_asked_before_it_asked_anew_is_left(player):
    with player._turn, ThreadPoolExecutor(1) as pool:  # white box: the model is busy
        older = pool.submit(player.write, asked(number=1, page="b"))
        while "b" not in player._newest:
            pass
        player._newest["b"] = 2
        player._turn.release()
        assert older.result() == {"late": True}
        player._turn.acquire()
    assert "plan" in player.write(asked(number=2, page="b"))
    assert "plan" in player.write(asked(number=1, page="c"))


@pytest.mark.parametrize("layers", [1, 2, 3, 4, 5, 6, 7, 8, 12, 32, 80])
def test_examples_run_on_models_of_any_depth_and_change_something(layers):
    plans = {example.title: plan for example, plan in examples_for(layers)}
    for title, plan in plans.items():
        plan.check(layers)
        assert plan != Plan.identity(layers), title
    assert len(set(plans.values())) == len(plans)
    assert len(plans) == (len(EXAMPLES) if layers >= 5 else len(plans))


def test_models_that_continue_no_prompts_are_refused(tmp_path):
    with pytest.raises(UserError, match="impasto fill fills its masks"):
        Player(impasto.load(tiny.bert(tmp_path)))
    with pytest.raises(UserError, match="has no tokenizer"):
        Player(impasto.load(family("llama")))


def test_the_command_prints_what_the_page_wrote(player):
    command = player.read(asked("-1 + 2 =", "0-3 [4-5]*2 6-11"))["command"]
    written = player.write(asked("-1 + 2 =", "0-3 [4-5]*2 6-11"))
    told = CliRunner().invoke(app, shlex.split(command)[1:])
    assert told.exit_code == 0, told.output
    lines = told.stdout.splitlines()
    assert [line.strip() for line in lines[1::2]] == [
        written[side].strip() for side in ("base", "plan")
    ]


def test_a_folder_that_holds_some_layers_is_put_beside_its_own_plan(tmp_path, player):
    line = "0-3 [4-6] freeze 8-11"
    impasto.export(player.model, Plan.parse(line), tmp_path / "thin")
    own = Player(impasto.load(tmp_path / "thin"))
    opened = own.begin({"address": ""})
    assert (opened["base"]["plan"], opened["model"]["is_whole"]) == (line, False)
    assert {chip["layer"] for chip in opened["base"]["chips"] if chip.get("off")} == {7}
    assert all(7 not in Plan.parse(example["plan"]).layers for example in opened["examples"])
    command = own.read(asked(plan="0-3 5 8-11"))["command"]
    written = own.write(asked(plan="0-3 5 8-11"))
    assert written["base"] == player.write(asked(plan=line))["plan"]
    told = CliRunner().invoke(app, shlex.split(command)[1:])
    assert told.exit_code == 0, told.output
    assert told.stdout.splitlines()[0] == f"baseline: {line}"
    assert "layers that are not loaded" in own.write(asked(plan="0-11"))["error"]


# ------------------------------------------------------------------ the command


def test_play_serves_a_page_and_ends(monkeypatch):
    got = []

    def look_at_it():
        got.append(urlopen(seen[0]).read().decode())

    seen = []
    monkeypatch.setattr("webbrowser.open", seen.append)
    monkeypatch.setattr("impasto.cli.play._wait", look_at_it)
    told = CliRunner().invoke(app, ["play", "--tokens", "3"])
    assert told.exit_code == 0, told.output
    assert f"play     {seen[0]}" in told.stdout
    assert "127.0.0.1" in seen[0]
    assert "impasto play: demo" in got[0]


def test_play_says_what_is_in_its_way(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        told = CliRunner().invoke(app, ["play", "--port", port])
    assert told.exit_code == 2
    assert told.stderr == (
        f"impasto: port {port} of 127.0.0.1 is taken: choose another with --port\n"
    )
    told = CliRunner().invoke(app, ["play", "--host", "203.0.113.9"])
    assert "--host is an address of this machine" in told.stderr
    monkeypatch.setitem(sys.modules, "gradio", None)
    told = CliRunner().invoke(app, ["play"])
    assert told.exit_code == 2
    assert told.stderr == 'impasto: impasto play needs gradio: pip install "impasto[play]"\n'
