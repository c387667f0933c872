"""Exporting: what is written, what is refused and why, and that nothing is ever half there."""

import errno
import json
import os
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, DynamicCache

import impasto
from families import family
from impasto import Plan, UserError
from impasto.aside import aside_of
from impasto.exporting import ExportError, roundtrip
from impasto.exporting import export as package_export
from impasto.model.loading.files import bundled_folder
from impasto.plan import Layer
from thinning import thinned

IDS = [5, 17, 3, 88, 41, 2, 60, 9]
DROPPED = Plan.parse("0-2 3-5.mlp")
HISTORY = Plan.parse("0 noise(gaussian, keep=1) 1 [2|3.mlp] 4 freeze 5")
REACHING = Plan.parse("0-1{last=3} noise(shuffle) 2{first=2} [3|4{last=1}] freeze 5{first=1}")


def logits(hf, ids=IDS):
    with torch.no_grad():
        return hf(input_ids=torch.tensor([ids]), use_cache=False).logits[0]


def planned_logits(hf, plan, ids=IDS):
    with impasto.apply(hf, plan):
        return logits(hf, ids)


def trusted(folder) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()


@pytest.mark.parametrize("line", ["5-0", "2 2 5", "1 1 1", "0-1 3-5"])
@pytest.mark.parametrize("name", thinned(["qwen2", "gemma3", "qwen3_moe", "gpt2"]))
def test_a_plan_of_whole_layers_is_a_checkpoint_of_its_family(name, line, tmp_path):
    hf, plan = family(name), Plan.parse(line)
    done = impasto.export(hf, plan, tmp_path / "out")
    assert done.form == "checkpoint"
    again = AutoModelForCausalLM.from_pretrained(done.folder).eval()
    assert type(again) is type(hf)
    assert again.config.num_hidden_layers == len(plan.steps) == done.layers
    assert again.dtype == hf.dtype
    assert torch.equal(logits(again), planned_logits(hf, plan))
    assert not list(done.folder.glob("*.py"))
    kinds = getattr(hf.config, "layer_types", None)
    if kinds is not None:
        assert again.config.layer_types == [
            kinds[step.index] for step in plan.steps if isinstance(step, Layer)
        ]


def test_settings_by_layer_are_renumbered_for_older_readers_too(tmp_path):
    config = impasto.export(family("qwen2"), Plan.parse("0 3 4"), tmp_path / "a").folder
    assert AutoConfig.from_pretrained(config).max_window_layers == 1
    config = impasto.export(family("qwen3_moe"), Plan.parse("4 0 1 1"), tmp_path / "b").folder
    assert AutoConfig.from_pretrained(config).mlp_only_layers == [0, 2, 3]
    config = impasto.export(family("gemma3"), Plan.parse("2 0 5 1"), tmp_path / "c").folder
    kinds = ["full_attention", "sliding_attention"] * 2
    assert AutoConfig.from_pretrained(config).layer_types == kinds


def test_a_setting_that_cannot_follow_is_refused_and_the_planned_form_holds_it(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    from families import weighted

    config = GPT2Config(
        vocab_size=97, n_embd=32, n_layer=4, n_head=4, n_positions=64, bos_token_id=None,
        eos_token_id=None, scale_attn_by_inverse_layer_idx=True,
    )  # fmt: skip
    hf = weighted(GPT2LMHeadModel(config))
    plan = Plan.parse("0 3 1")
    with pytest.raises(ExportError, match=r"layer 3 .* place 1.*form='planned'"):
        impasto.export(hf, plan, tmp_path / "out")
    assert not list(tmp_path.glob("*out*"))
    done = impasto.export(hf, plan, tmp_path / "out", form="planned")
    torch.testing.assert_close(logits(trusted(done.folder)), planned_logits(hf, plan))


def test_a_repeat_is_stored_for_each_time_in_a_checkpoint_and_once_in_a_planned_folder(tmp_path):
    hf, plan = family("llama"), Plan.parse("2*4")
    plain = impasto.export(hf, plan, tmp_path / "plain")
    planned = impasto.export(hf, plan, tmp_path / "planned", form="planned")
    assert (plain.layers, planned.layers) == (4, 1)
    names = load_file(planned.folder / "model.safetensors")
    assert {name.split(".")[2] for name in names if ".layers." in name} == {"2"}
    assert torch.equal(logits(trusted(planned.folder)), logits(impasto.load(plain.folder).hf))


def test_tied_weights_stay_tied_and_are_stored_once(tmp_path):
    hf = family("gpt2")
    for number, plan in enumerate([Plan.parse("0 0 3"), DROPPED]):
        done = impasto.export(hf, plan, tmp_path / str(number))
        assert "lm_head.weight" not in load_file(done.folder / "model.safetensors")
        again = trusted(done.folder)
        assert again.lm_head.weight is again.transformer.wte.weight


@pytest.mark.parametrize("plan", [Plan.parse("0 3 3 5"), DROPPED], ids=str)
def test_weights_are_sharded_on_demand(plan, tmp_path):
    hf = family("llama")
    done = impasto.export(hf, plan, tmp_path / "out", max_shard_size=60_000)
    assert len(list(done.folder.glob("*.safetensors"))) > 1
    assert (done.folder / "model.safetensors.index.json").exists()
    torch.testing.assert_close(logits(trusted(done.folder)), planned_logits(hf, plan))


def test_half_precision_stays_what_it_is(tmp_path):
    hf = family("llama").__class__(family("llama").config)
    hf.load_state_dict(family("llama").state_dict())
    hf = hf.to(torch.bfloat16).eval()
    for number, plan in enumerate([Plan.parse("0 3 5"), HISTORY]):
        done = impasto.export(hf, plan, tmp_path / str(number))
        stored = load_file(next(done.folder.glob("*.safetensors"))).values()
        assert {tensor.dtype for tensor in stored} == {torch.bfloat16}
        assert trusted(done.folder).dtype == torch.bfloat16


def test_the_demo_comes_with_tokenizer_card_and_provenance(tmp_path):
    plan = Plan.parse("0-3 6-11")
    done = impasto.export("demo", plan, tmp_path / "out")
    text = "Q: What is the capital of France?\nA:"
    tokenizer = AutoTokenizer.from_pretrained(done.folder)
    own = AutoTokenizer.from_pretrained(bundled_folder("demo"))
    assert tokenizer(text).input_ids == own(text).input_ids
    card = (done.folder / "README.md").read_text()
    about = json.loads((done.folder / "impasto.json").read_text())
    assert about["plan"] == str(plan)
    assert about["digest"] == plan.digest
    for said in (str(plan), plan.digest, "demo", about["weights"]):
        assert said in card
    other = impasto.export("demo", Plan.parse("0-3 6-10"), tmp_path / "other")
    assert json.loads((other.folder / "impasto.json").read_text())["weights"] != about["weights"]


def test_the_bars_of_a_plan_stay_within_their_cell_of_the_card(tmp_path):
    done = impasto.export(family("llama"), Plan.parse("[0 1|2] 3"), tmp_path / "out")
    [line] = [x for x in (done.folder / "README.md").read_text().splitlines() if "| plan |" in x]
    assert line.replace(r"\|", "").count("|") == 3
    assert r"\|" in line


def test_the_license_of_the_sources_card_goes_along(tmp_path):
    source = tmp_path / "source"
    family("llama").save_pretrained(source)
    head = "---\nlicense: other\nlicense_name: painters\nlicense_link: LICENSE\n---\n# A model\n"
    (source / "README.md").write_text(head)
    done = impasto.export(source, DROPPED, tmp_path / "out")
    card = (done.folder / "README.md").read_text()
    assert "license: other\nlicense_name: painters\nlicense_link: LICENSE\n" in card


def test_a_card_shows_names_as_text(tmp_path):
    source = tmp_path / "a <b>![x](y) `c`"
    family("llama").save_pretrained(source)
    head = "---\nlicense: other\nlicense_name: '<img src=x>'\n---\n# A model\n"
    (source / "README.md").write_text(head)
    done = impasto.export(source, DROPPED, tmp_path / "out")
    body = (done.folder / "README.md").read_text().split("---", 2)[2]
    assert "\\<img src=x>" in body
    assert "# a \\<b>![x]\\(y) \\`c\\` under the plan `" in body


def test_a_killed_export_leaves_nothing_that_the_next_one_does_not_remove(tmp_path):
    stray = aside_of(tmp_path / "out")
    stray = stray.with_name(stray.name.replace(f".{os.getpid()}@", ".4194305@"))  # no process
    stray.mkdir()
    (stray / "model.safetensors").write_bytes(b"half")
    impasto.export(family("llama"), DROPPED, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_planned_folder_never_loads_as_the_source(tmp_path):
    done = impasto.export(family("llama"), DROPPED, tmp_path / "out")
    with pytest.raises(ValueError, match="trust_remote_code"):
        AutoModelForCausalLM.from_pretrained(done.folder)


@pytest.mark.parametrize("name", ["llama", "gpt2", "bloom", "mixtral", "opt"])
def test_impasto_opens_a_planned_folder_without_running_its_code(name, tmp_path):
    hf, ids = family(name), torch.tensor([IDS])
    done = impasto.export(hf, Plan.parse("1 3.mlp freeze 4"), tmp_path / "out")
    (done.folder / "modeling_impasto.py").write_text("raise SystemExit('this was run')")
    model = impasto.load(done.folder)
    assert str(model.plan) == "1 3.mlp freeze 4"
    assert type(model.hf) is type(hf)
    own = impasto.load(hf)
    for line in ("1 3.mlp freeze 4", "4 1", "[1|3|4] 1"):
        plan = Plan.parse(line)
        assert torch.equal(model.next_logits(plan, ids), own.next_logits(plan, ids))
    with pytest.raises(UserError, match=r"not loaded \(0, 2, 5\)"):
        model.next_logits(Plan.parse("0-5"), ids)
    with pytest.raises(UserError, match=r"does not hold \(2\)"):
        impasto.load(done.folder, plan=Plan.parse("1 2"))


def test_an_exported_folder_can_be_exported_again(tmp_path):
    hf = family("gemma3")
    first = impasto.export(hf, Plan.parse("5 0 2 3"), tmp_path / "first")
    second = impasto.export(first.folder, Plan.parse("3 1.mlp"), tmp_path / "second")
    wanted = planned_logits(hf, Plan.parse("3 0.mlp"))
    torch.testing.assert_close(logits(trusted(second.folder)), wanted)
    third = impasto.export(second.folder, Plan.parse("1 1 3"), tmp_path / "third")
    wanted = planned_logits(hf, Plan.parse("0 0 3"))
    again = AutoModelForCausalLM.from_pretrained(third.folder)
    torch.testing.assert_close(logits(again), wanted)


@pytest.mark.parametrize(
    ("name", "plan"),
    thinned(
        [
            *((name, HISTORY) for name in ("llama", "gpt2", "bloom", "falcon_alibi", "gemma3")),
            *((name, REACHING) for name in ("gpt2", "falcon_alibi", "gemma3")),
        ]
    ),
    ids=str,
)
def test_a_planned_model_generates_as_under_apply_with_padding_beams_and_sampling(
    name, plan, tmp_path
):
    hf = family(name)
    done = impasto.export(hf, plan, tmp_path / "out")
    again = trusted(done.folder)
    ids = torch.tensor([[0, 0, 0, *IDS[:5]], IDS])
    ways = {
        "attention_mask": torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1], [1] * 8]),
        "max_new_tokens": 4, "pad_token_id": 0,
    }  # fmt: skip
    for way in ({"do_sample": False}, {"num_beams": 3, "do_sample": False}, {"do_sample": True}):
        written = []
        with impasto.apply(hf, plan):
            torch.manual_seed(0)
            written.append(hf.generate(ids, **ways, **way))
        for use_cache in (True, False):
            torch.manual_seed(0)
            written.append(again.generate(ids, **ways, **way, use_cache=use_cache))
        assert torch.equal(written[0], written[1]), way
        assert torch.equal(written[0], written[2]), way


def test_a_planned_model_refuses_what_it_cannot_tell(tmp_path):
    again = trusted(impasto.export(family("llama"), HISTORY, tmp_path / "out").folder)
    ids = torch.tensor([IDS])
    with pytest.raises(ValueError, match="output_hidden_states"):
        again(input_ids=ids, output_hidden_states=True)
    with pytest.raises(ValueError, match="input_ids"):
        again(inputs_embeds=torch.zeros(1, 3, 32))
    cache = DynamicCache(config=family("llama").config)
    family("llama")(input_ids=ids, past_key_values=cache, use_cache=True)
    with pytest.raises(ValueError, match="filled without the plan"):
        again(input_ids=ids, past_key_values=cache)
    with pytest.raises(UserError, match="runs a plan of its own"):
        impasto.load(again)
    assert all("forward" not in module.__dict__ for module in again.modules())
    torch.testing.assert_close(logits(again), planned_logits(family("llama"), HISTORY))


INJECTS, NOTHING = Plan.parse("0 inject(a) 1-5"), Plan.parse("freeze")
REFUSED = [
    ({"plan": INJECTS}, "bound when it runs"),
    ({"plan": NOTHING}, "runs no layer"),
    ({"plan": Plan.parse("0-6")}, "layer 6 does not exist"),
    ({"plan": DROPPED, "form": "checkpoint"}, r"3.mlp is no whole layer.*form='planned'"),
    ({"plan": HISTORY, "form": "checkpoint"}, "noise.* is no whole layer"),
    ({"plan": Plan.parse("0-5{last=4}"), "form": "checkpoint"}, "0{last=4} is no whole layer as"),
    ({"plan": DROPPED, "form": "onnx"}, "checkpoint or planned"),
    ({"plan": "0-5"}, "is not a plan"),
    ({"plan": DROPPED, "max_shard_size": "5GiB"}, "5GB or 500MB"),
    ({"plan": DROPPED, "max_shard_size": 0}, "5GB or 500MB"),
    ({"plan": DROPPED, "dtype": "auto"}, "options are for models"),
]


@pytest.mark.parametrize(("given", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_what_cannot_be_exported_says_why_and_leaves_nothing(given, says, tmp_path):
    with pytest.raises(UserError, match=says):
        impasto.export(family("llama"), dest=tmp_path / "out", **given)
    assert not list(tmp_path.glob("*out*"))


def test_what_is_there_is_not_overwritten(tmp_path):
    there = tmp_path / "out"
    there.mkdir()
    with pytest.raises(ExportError, match="not overwritten"):
        impasto.export(family("llama"), DROPPED, there)
    there.rmdir()
    there.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ExportError, match="not overwritten"):
        impasto.export(family("llama"), DROPPED, there)
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="no folder"):
        impasto.export(family("llama"), DROPPED, tmp_path / "file" / "out")


def test_a_full_disk_leaves_nothing_and_says_so(tmp_path, monkeypatch):
    from transformers import PreTrainedModel

    def full(self, folder, **options):
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(PreTrainedModel, "save_pretrained", full)
        with pytest.raises(ExportError, match="No space left on device; nothing was left"):
            impasto.export(family("llama"), DROPPED, tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10}))
        with pytest.raises(ExportError, match="GiB left"):
            impasto.export(family("llama"), DROPPED, tmp_path / "out")
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize("plan", [Plan.parse("0 3 5"), DROPPED], ids=str)
def test_an_interrupted_export_leaves_nothing(plan, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("impasto.exporting.writing.check", interrupted)
    with pytest.raises(KeyboardInterrupt):
        impasto.export(family("llama"), plan, tmp_path / "out")
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize("plan", [Plan.parse("0 3 5"), DROPPED], ids=str)
def test_what_does_not_give_the_plans_logits_is_not_kept(plan, tmp_path, monkeypatch):
    own = roundtrip._loaded

    def damaged(*given):
        hf = own(*given)
        with torch.no_grad():
            hf.model.layers[0].mlp.up_proj.weight[0] *= 1.01
        return hf

    monkeypatch.setattr(roundtrip, "_loaded", damaged)
    with pytest.raises(ExportError, match="does not give the plan's logits"):
        impasto.export(family("llama"), plan, tmp_path / "out")
    assert not list(tmp_path.glob("*out*"))


def test_a_model_with_adapters_is_refused_with_what_to_do(tmp_path):
    from peft import LoraConfig, get_peft_model

    hf = family("llama").__class__(family("llama").config).eval()
    adapted: Any = get_peft_model(hf, LoraConfig(task_type="CAUSAL_LM", r=2))
    with pytest.raises(UserError, match="merge them"):
        impasto.export(adapted.get_base_model(), Plan.parse("0 3"), tmp_path / "out")


def test_the_function_is_the_packages(tmp_path):
    assert impasto.export is package_export
