"""Adapter folders: the base that they name is loaded, and what runs is what PEFT runs."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

import impasto
from adapters import LORA, adapter_folder, base_folder, edit
from families import family
from impasto import Plan, UserError
from impasto.model.loading.files import weight_bytes
from impasto.model.loading.load import load_tokenizer
from impasto.study.work.identity import model_identity, weights_stamp
from thinning import thinned

IDS = torch.tensor([[5, 17, 3, 88, 41, 2, 60, 9]])
PLANS = ["0-5", "0-2 3-5.mlp", "0 [1 2|3]*2 4 freeze 5", "5-0"]
KINDS = {
    "lora": LORA(target_modules=["q_proj", "down_proj"]),
    "dora": LORA(target_modules=["v_proj"], use_dora=True),
    "rslora": LORA(target_modules="all-linear", use_rslora=True, lora_alpha=3),
    "saved": LORA(target_modules=["q_proj"], modules_to_save=["lm_head"]),
    "tokens": LORA(target_modules=["q_proj"], trainable_token_indices=[3, 5]),
    "ia3": peft.IA3Config(
        target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]
    ),
    "vera": peft.VeraConfig(target_modules=["q_proj"]),
    "oft": peft.OFTConfig(target_modules=["q_proj"], r=2, oft_block_size=0),
}
FAMILIES = ["llama", "gpt2", "gemma3", "mixtral", "bloom"]
ALL_LINEAR = LORA(target_modules="all-linear")


def logits(hf: Any, plan: Plan | None = None) -> torch.Tensor:
    with torch.no_grad():
        if plan is None:
            return hf(input_ids=IDS, use_cache=False).logits
        with impasto.apply(hf, plan):
            return hf(input_ids=IDS, use_cache=False).logits


def words(folder: Path, end: str) -> None:
    """Write a tokenizer of a few words."""
    vocabulary = {word: i for i, word in enumerate(["the", "cat", "sat", end])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="the"))
    PreTrainedTokenizerFast(tokenizer_object=made, eos_token=end).save_pretrained(folder)


@pytest.fixture
def base(tmp_path) -> Path:
    return base_folder(tmp_path / "base")


@pytest.mark.parametrize("kind", thinned(KINDS, 2))
def test_an_adapter_folder_gives_what_peft_gives_kept_and_merged(kind, base, tmp_path):
    adapted = adapter_folder(tmp_path / "a", base, KINDS[kind])
    plain = logits(family("llama"))
    kept, merged = impasto.load(tmp_path / "a"), impasto.load(tmp_path / "a", merge_adapter=True)
    wanted = logits(adapted)
    assert (wanted - plain).abs().max() > 0.01 * plain.abs().max()
    assert torch.equal(logits(kept.hf), wanted)
    torch.testing.assert_close(logits(merged.hf), wanted, rtol=1e-4, atol=1e-4)
    assert kept.hf.active_adapters() == ["default"]  # type: ignore[operator]
    assert not hasattr(merged.hf, "peft_config")
    assert all(type(p) is torch.nn.Parameter and p.requires_grad for p in merged.hf.parameters())


@pytest.mark.parametrize("name", thinned(FAMILIES))
def test_plans_run_on_an_adapter_as_on_the_peft_model(name, tmp_path):
    base = base_folder(tmp_path / "base", name)
    adapted = adapter_folder(tmp_path / "a", base, ALL_LINEAR)
    kept, merged = impasto.load(tmp_path / "a"), impasto.load(tmp_path / "a", merge_adapter=True)
    for plan in map(Plan.parse, PLANS):
        wanted = logits(adapted, plan)
        assert torch.equal(logits(kept.hf, plan), wanted)
        last = wanted[:, -1]
        torch.testing.assert_close(kept.next_logits(plan, IDS), last, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(merged.next_logits(plan, IDS), last, rtol=1e-4, atol=1e-4)
        assert kept.generate(plan, [IDS[0].tolist()], max_new_tokens=4) == merged.generate(
            plan, [IDS[0].tolist()], max_new_tokens=4
        )


def test_parallel_layers_can_be_stacked_once_adapters_are_merged(base, tmp_path):
    """Kept apart, adapters tell their layers' numbers, so that no two layers are alike."""
    adapted = adapter_folder(tmp_path / "a", base, LORA(target_modules="all-linear"))
    plan = Plan.parse("0 [1-4]*2 5")
    wanted = logits(adapted, plan)
    kept, merged = impasto.load(tmp_path / "a"), impasto.load(tmp_path / "a", merge_adapter=True)
    with pytest.raises(UserError, match="layers 1, 2, 3, 4: no other is alike"):
        impasto.apply(kept.hf, plan, stack=True)
    torch.testing.assert_close(logits(kept.hf, plan), wanted, rtol=1e-4, atol=1e-4)
    with torch.no_grad(), impasto.apply(merged.hf, plan, stack=True) as applied:
        assert applied.stacked == (1, 2, 3, 4)
        found = merged.hf(input_ids=IDS, use_cache=False).logits
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("kind", ["lora", "saved", "vera", "ia3"])
def test_only_the_layers_of_a_plan_are_loaded_and_adapted(kind, merge, base, tmp_path):
    adapted = adapter_folder(tmp_path / "a", base, KINDS[kind])
    plan = Plan.parse("0 3 4.mlp")
    model = impasto.load(tmp_path / "a", plan=plan, merge_adapter=merge)
    torch.testing.assert_close(logits(model.hf, plan), logits(adapted, plan), rtol=1e-4, atol=1e-4)
    assert not any(".layers.1." in name for name, _ in model.hf.named_parameters())
    with pytest.raises(UserError, match=r"not loaded \(1\)"):
        model.next_logits(Plan.parse("0 1"), IDS)


def test_half_precision_is_that_of_transformers(base, tmp_path):
    adapter_folder(tmp_path / "a", base, KINDS["lora"])
    ours = impasto.load(tmp_path / "a", dtype=torch.bfloat16).hf
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "a", dtype=torch.bfloat16)
    assert torch.equal(logits(ours), logits(theirs.eval()))


@pytest.mark.parametrize("merge", [False, True])
def test_an_encoder_is_adapted_too(merge, tmp_path):
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    small: Any = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64}
    own = BertForMaskedLM(BertConfig(**small, num_hidden_layers=3, num_attention_heads=4))
    own.save_pretrained(tmp_path / "base")
    adapted: Any = peft.get_peft_model(
        own, peft.LoraConfig(r=2, target_modules=["query", "dense"], init_lora_weights=False)
    )
    adapted.save_pretrained(tmp_path / "a")
    edit(tmp_path / "a", base_model_name_or_path=str(tmp_path / "base"))
    model = impasto.load(tmp_path / "a", merge_adapter=merge)
    assert isinstance(model, impasto.Encoder)
    ids = IDS % 64
    with torch.no_grad():
        wanted = adapted.eval()(input_ids=ids).logits
        torch.testing.assert_close(model.hf(input_ids=ids).logits, wanted, rtol=1e-4, atol=1e-4)


def test_the_base_is_found_from_here_and_beside_the_adapter(base, tmp_path, monkeypatch):
    adapted = adapter_folder(tmp_path / "a", base, KINDS["lora"], named="../base")
    assert torch.equal(logits(impasto.load(tmp_path / "a").hf), logits(adapted))
    elsewhere = tmp_path / "b" / "c"
    elsewhere.mkdir(parents=True)
    adapter_folder(elsewhere / "a", base, KINDS["lora"], named="base")
    monkeypatch.chdir(tmp_path)
    assert torch.equal(logits(impasto.load("b/c/a").hf), logits(adapted))


def test_a_base_and_its_adapter_may_lie_in_one_folder(base, tmp_path):
    adapted = adapter_folder(base, base, KINDS["dora"], named="nobody/knows")
    for merge in (False, True):
        found = logits(impasto.load(base, merge_adapter=merge).hf)
        torch.testing.assert_close(found, logits(adapted), rtol=1e-4, atol=1e-4)
    (base / "model.safetensors").rename(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="nobody/knows"):  # a configuration alone is no base
        impasto.load(base)


def test_an_adapter_of_a_planned_folder_is_an_adapter_of_its_layers(tmp_path):
    plan = Plan.parse("0 2-3.mlp freeze 4")
    impasto.export(family("llama"), plan, tmp_path / "base")
    whole = base_folder(tmp_path / "whole")
    adapted = adapter_folder(tmp_path / "a", whole, KINDS["lora"], named=tmp_path / "base")
    model = impasto.load(tmp_path / "a")
    assert model.plan == plan
    assert torch.equal(logits(model.hf, plan), logits(adapted, plan))


def test_the_tokenizer_is_the_adapters_where_it_has_one_and_else_the_bases(base, tmp_path):
    words(base, "base")
    adapter_folder(tmp_path / "a", base, KINDS["lora"])
    ways: list[Any] = [lambda place: impasto.load(place).tokenizer, load_tokenizer]
    assert [way(tmp_path / "a").eos_token for way in ways] == ["base", "base"]
    words(tmp_path / "a", "adapter")
    assert [way(tmp_path / "a").eos_token for way in ways] == ["adapter", "adapter"]


def test_new_tokens_that_an_adapter_brings_have_room(base, tmp_path):
    hf = AutoModelForCausalLM.from_pretrained(base)
    hf.resize_token_embeddings(101)
    torch.manual_seed(0)
    adapted: Any = peft.get_peft_model(
        hf, LORA(target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"])
    )
    adapted.save_pretrained(tmp_path / "a")
    edit(tmp_path / "a", base_model_name_or_path=str(base))
    model = impasto.load(tmp_path / "a")
    assert model.hf.config.vocab_size == 101
    assert torch.equal(logits(model.hf), logits(adapted.eval()))


def hub_repository(cache: Path, name: str, folder: Path) -> None:
    """Put a folder where a download of that repository would lie."""
    place = cache / f"models--{name.replace('/', '--')}"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    shutil.copytree(folder, place / "snapshots" / commit)


def test_an_adapter_on_a_hub_is_put_into_a_base_on_a_hub(base, tmp_path):
    adapted = adapter_folder(tmp_path / "a", base, KINDS["lora"], named="painters/base")
    words(base, "base")
    cache = tmp_path / "cache"
    hub_repository(cache, "painters/base", base)
    hub_repository(cache, "painters/adapter", tmp_path / "a")
    shutil.rmtree(base)
    for merge in (False, True):
        model = impasto.load("painters/adapter", cache_dir=cache, merge_adapter=merge)
        torch.testing.assert_close(logits(model.hf), logits(adapted), rtol=1e-4, atol=1e-4)
        assert model.tokenizer.eos_token == "base"
        assert model.name == "painters/adapter"
    with pytest.raises(UserError, match="painters/other"):
        impasto.load("painters/other", cache_dir=cache)


def test_the_weights_of_base_and_adapter_are_counted(base, tmp_path):
    adapter_folder(tmp_path / "a", base, KINDS["lora"])
    own = weight_bytes(base)
    assert own is not None
    extra = (tmp_path / "a" / "adapter_model.safetensors").stat().st_size
    assert weight_bytes(tmp_path / "a") == own + extra


def identity(folder: Path, **options: Any) -> dict[str, str]:
    return dict(model_identity(impasto.load(folder, **options)).parts)


def test_a_result_is_keyed_by_the_weights_of_base_and_adapter_and_by_how_it_acts(base, tmp_path):
    adapter_folder(tmp_path / "a", base, KINDS["lora"])
    own = identity(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "same")
    assert identity(tmp_path / "same") == own
    adapter_folder(tmp_path / "b", base, KINDS["lora"], seed=1)
    assert identity(tmp_path / "b")["weights"] != own["weights"]
    edit(tmp_path / "same", lora_alpha=32)
    louder = identity(tmp_path / "same")
    assert {part for part in own if own[part] != louder[part]} == {"adapter"}
    merged = identity(tmp_path / "same", merge_adapter=True)
    assert merged["weights"] not in (own["weights"], identity(base)["weights"])
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"] += 1
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    assert identity(tmp_path / "a")["weights"] != own["weights"]


@pytest.mark.parametrize("merge", [False, True])
def test_files_of_a_base_never_vouch_for_what_an_adapter_made_of_it(merge, base, tmp_path):
    adapter_folder(tmp_path / "a", base, KINDS["lora"])
    assert weights_stamp(impasto.load(base).hf, {}) is not None
    hf = impasto.load(tmp_path / "a", merge_adapter=merge).hf
    assert weights_stamp(hf, {}) is None
    assert hf.name_or_path == hf.config.name_or_path == str(tmp_path / "a")


def drop(name: str) -> Any:
    return lambda folder: (folder / name).unlink()


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
    drop("adapter_model.safetensors")(folder)


def without_a_weight(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    weights = load_file(path)
    weights.pop("base_model.model.model.layers.2.self_attn.q_proj.lora_B.weight")
    save_file(weights, path, {"format": "pt"})


def another_weight(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    weights = load_file(path) | {"base_model.model.score.weight": torch.ones(2, 2)}
    save_file(weights, path, {"format": "pt"})


def wide(folder: Path) -> None:
    edit(folder, r=3)


def damaged(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"no weights")


DAMAGED: list[tuple[Any, str]] = [
    (pickled, r"adapter_model\.bin, a pickle"),
    (drop("adapter_model.safetensors"), "so it has no weights"),
    (without_a_weight, r"layers\.2\.self_attn\.q_proj.* is not in its file"),
    (another_weight, r"score\.weight has no place"),
    (wide, "size mismatch"),
    (damaged, "cannot be (put|merged) into"),
    (partial(edit, peft_type="PAINTING"), "kind PAINTING, which peft .* does not know"),
    (partial(edit, target_modules=["nowhere"]), "nowhere"),
    (partial(edit, base_model_name_or_path=None), "names no base model"),
    (partial(edit, base_model_name_or_path="/not/there"), "there is no folder /not/there"),
    (partial(edit, base_model_name_or_path="../a"), "there is no folder .*a.* with a config.json"),
    (partial(edit, alora_invocation_tokens=[5]), "behind certain tokens"),
    (lambda folder: (folder / "adapter_config.json").write_text("{"), "no configuration of PEFT"),
    (lambda folder: (folder / "adapter_config.json").write_text("[]"), "no configuration of PEFT"),
]


@pytest.mark.parametrize(("damage", "says"), DAMAGED, ids=[says for _, says in DAMAGED])
def test_an_adapter_that_cannot_be_loaded_says_why(damage, says, base, tmp_path):
    adapter_folder(tmp_path / "a", base, KINDS["lora"])
    damage(tmp_path / "a")
    for merge in (False, True):
        with pytest.raises(UserError, match=says):
            impasto.load(tmp_path / "a", merge_adapter=merge)


PROMPTS = [
    peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    peft.PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=3, encoder_hidden_size=8),
]


@pytest.mark.parametrize("config", PROMPTS, ids=lambda config: config.peft_type.value)
def test_an_adapter_that_changes_the_input_is_refused(config, base, tmp_path):
    adapter_folder(tmp_path / "a", base, config)
    with pytest.raises(UserError, match=rf"{config.peft_type.value}: it adds learned prompts"):
        impasto.load(tmp_path / "a")


def test_an_adapter_that_merging_would_change_is_refused_and_runs_unmerged(tmp_path):
    hf = family("gpt2")  # whose embeddings are its head as well
    hf.save_pretrained(tmp_path / "base")
    adapted = adapter_folder(tmp_path / "a", tmp_path / "base", LORA(target_modules=["wte"]))
    assert torch.equal(logits(impasto.load(tmp_path / "a").hf), logits(adapted))
    with pytest.raises(UserError, match=r"computes something else.*leave merge_adapter out"):
        impasto.load(tmp_path / "a", merge_adapter=True)


def test_without_peft_it_is_said_what_to_install(base, tmp_path, monkeypatch):
    adapter_folder(tmp_path / "a", base, KINDS["lora"])
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(UserError, match="pip install peft"):
        impasto.load(tmp_path / "a")


def test_the_option_is_a_yes_or_no_and_nothing_to_a_model_without_adapter(base):
    with pytest.raises(UserError, match="merge_adapter is True or False"):
        impasto.load(base, merge_adapter="yes")
    assert torch.equal(logits(impasto.load(base, merge_adapter=True).hf), logits(family("llama")))


def test_a_folder_with_neither_says_so(tmp_path):
    with pytest.raises(UserError, match=r"no config\.json and no adapter_config\.json"):
        impasto.load(tmp_path)
