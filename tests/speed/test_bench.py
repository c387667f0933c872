"""Timing plans: what is run, what is compared with what, and what is refused."""

from dataclasses import replace
from importlib import import_module

import pytest
import torch

from families import LAYERS, family
from impasto.error import UserError
from impasto.model.structure.anatomy import ModelError
from impasto.plan import Plan
from impasto.plan.error import PlanError
from impasto.run import Model
from impasto.run.batching.memory import Free
from impasto.run.load import load_decoder
from impasto.speed import Settings, bench, one_token, profile
from impasto.speed.bench import BARE, BASELINE, expected_work, random_tokens, runs_of
from impasto.speed.costs import costs_of
from impasto.speed.memory import filling_batch, peak_memory
from impasto.speed.profile import PARTS
from impasto.speed.table import bench_rows
from impasto.speed.ways import kept_bytes, run

HALF, FROZEN = Plan.parse("0-2"), Plan.parse("0-1 freeze 2-4.mlp 5")
SMALL = Settings(tokens=(6, 9), batches=(1, 2), new_tokens=2, rounds=3, warm_up=0)


@pytest.fixture(scope="module")
def model() -> Model:
    return load_decoder(family("llama"))


def test_all_settings_are_timed_against_the_baseline(model):
    done: list[float] = []
    found = bench(model, {"half": HALF, "frozen": FROZEN}, SMALL, done.append)
    labels = [BASELINE, BARE, "half", "frozen"]
    assert [time.label for time in found.times] == labels * (2 * 2 * 2)
    works = {(t.work, t.tokens, t.batch) for t in found.times}
    assert works == {(w, n, b) for w in ("prefill", "token") for n in (6, 9) for b in (1, 2)}
    assert done[-1] == 1.0
    for each in found.times:
        low, middle, high = each.seconds.low, each.seconds.middle, each.seconds.high
        assert 0 < low <= middle <= high
        if each.label == BASELINE:
            assert (each.ratio.low, each.ratio.high, each.expected) == (1, 1, 1)
        if each.label == "half":
            assert each.expected < 0.7
        per = each.tokens if each.work == "prefill" else 1
        assert each.per_second == pytest.approx(each.batch * per / middle)
    assert {each.label for each in found.held} == {BASELINE, "half", "frozen"}
    for each in found.held:
        assert each.kept_bytes == each.expected_kept_bytes > 0
    whole, half = found.held[0], found.held[1]
    assert 2 * half.kept_bytes == whole.kept_bytes
    assert half.parameters < whole.parameters == sum(w.numel() for w in model.hf.parameters())


def test_a_plan_that_can_be_stacked_is_timed_both_ways(model):
    plans = {"beside": Plan.parse("0 [1-4] 5"), "down": Plan.parse("0 [3|2]"), "half": HALF}
    settings = replace(SMALL, tokens=(6,), batches=(1,), rounds=1)
    found = bench(model, plans, settings)
    labels = [BASELINE, BARE, "beside", "beside, stacked", "down", "half"]
    assert [time.label for time in found.times] == labels * 2
    assert {time.label for time in found.times if time.way == "stacked"} == {"beside, stacked"}
    assert {each.label for each in found.held} == {*labels} - {BARE}
    table = bench_rows(found)
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    [plain, stacked] = (
        row for row in rows if row["plan"] == "0 [1-4] 5" and row["work"] == "token"
    )
    assert (plain["way"], stacked["way"]) == ("apply", "stacked")
    engine = bench(model, plans, replace(settings, way="engine"))
    assert {time.way for time in engine.times} == {"engine", "bare"}


def test_no_token_behind_the_prompt_leaves_the_prompt(model):
    found = bench(model, {"half": HALF}, replace(SMALL, new_tokens=0))
    assert {time.work for time in found.times} == {"prefill"}


@pytest.mark.parametrize("way", ["apply", "stacked", "engine", "bare"])
@pytest.mark.parametrize("new_tokens", [0, 3])
def test_every_way_reads_the_prompt_and_so_many_tokens(model, way, new_tokens):
    plan = {"bare": Plan.identity(LAYERS), "stacked": Plan.parse("0 [1-4] 5")}.get(way, FROZEN)
    ids = random_tokens(model, 2, 5, seed=0)
    timed = run(model, way, plan, ids, new_tokens)
    assert timed.prefill > 0
    assert (timed.token is not None) == bool(new_tokens)


def test_decoding_reads_every_token_behind_a_true_context(model, monkeypatch):
    seen: list[int] = []
    cache = torch.nn.functional.scaled_dot_product_attention

    def noted(query, key, *args, **kwargs):
        seen.append(key.shape[2])
        return cache(query, key, *args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", noted)
    run(model, "bare", Plan.identity(LAYERS), random_tokens(model, 1, 7, seed=0), 3)
    assert seen == [n for n in (7, 8, 9, 10) for _ in range(LAYERS)]


def test_bytes_that_a_token_keeps_are_read_off_the_cache(model):
    whole = kept_bytes(model, Plan.identity(LAYERS))
    for line, share in (("0-2", 0.5), ("0-2 3-5.mlp", 0.5), ("0-5 0-5", 2), ("0.mlp", 0)):
        assert kept_bytes(model, Plan.parse(line)) == share * whole


def test_a_busy_machine_reports_its_own_spread(model, monkeypatch):
    module = import_module("impasto.speed.bench")  # which the function of this name hides
    lasts = iter([0.0, 0.02] * 50)
    real = module.run

    def disturbed(*given, **more):
        timed = real(*given, **more)
        return replace(timed, prefill=timed.prefill + next(lasts))

    monkeypatch.setattr(module, "run", disturbed)
    settings = replace(SMALL, tokens=(6,), batches=(1,), rounds=8, new_tokens=0)
    found = bench(model, {"half": HALF}, settings)
    assert any("the machine was not quiet" in note and "% apart" in note for note in found.notes)


def test_one_token_is_paper_cs_measure(model):
    found = one_token(model, {"half": HALF}, lengths=(5, 8), sequences=4)
    assert [(each.label, each.tokens) for each in found] == [
        (label, tokens) for tokens in (5, 8) for label in (BASELINE, BARE, "half")
    ]
    for each in found:
        base = next(o for o in found if o.tokens == each.tokens and o.label == BASELINE)
        assert each.improvement == pytest.approx(1 - each.seconds / base.seconds)
        assert each.seconds_error > 0
    assert found[0].improvement == found[0].improvement_error == 0


def test_costs_are_of_the_plans_that_were_asked_for(model):
    plans = {"base": Plan.identity(LAYERS), "half": HALF}
    found = costs_of(model, plans, 2, (5,))
    assert [each.label for each in found] == ["base", "half"]
    base, half = found
    assert base.time.improvement == 0
    assert 0.3 < half.work.flops / base.work.flops < 0.7
    assert 2 * half.held.kept_bytes == base.held.kept_bytes
    assert [each.label for each in costs_of(model, {"half": HALF}, 2, (5,))] == ["half"]


def test_a_profile_splits_all_of_the_time_by_part(model):
    plan = Plan.parse("0-1 2.attn 3.mlp 3.mlp")
    before = hooks(model.hf)
    prefill, token = profile(model, plan, random_tokens(model, 1, 8, 0), "apply", 2, rounds=3)
    for each in (prefill, token):
        assert set(each.parts) == set(PARTS)
        assert sum(each.parts.values()) == pytest.approx(each.seconds)
        assert all(seconds > 0 for seconds in each.parts.values())
        assert set(each.layers) == {0, 1, 2, 3}
        assert sum(each.layers.values()) < each.seconds
    assert hooks(model.hf) == before


def hooks(hf):
    return [list(module._forward_hooks) for module in hf.modules()]


def test_peak_memory_sees_what_work_takes():
    def work():
        return bytearray(b"x") * (64 * 2**20)

    peak = peak_memory(work, torch.device("cpu"))
    if peak is None:
        pytest.skip("this system does not tell")
    assert 60 * 2**20 < peak < 200 * 2**20


def test_a_filling_batch_is_a_power_of_two_that_shrinks_with_length(model, monkeypatch):
    free = Free(20_000_000, 10_000_000)
    monkeypatch.setattr("impasto.speed.memory.free_memory", lambda device: free)
    few, many = filling_batch(model, 64, 8), filling_batch(model, 8, 8)
    assert few < many
    assert few & (few - 1) == many & (many - 1) == 0


def test_a_model_loaded_for_a_plan_is_timed_without_the_layers_it_lacks(tmp_path):
    family("llama").save_pretrained(tmp_path)
    part = load_decoder(tmp_path, plan=Plan.parse("0 2"))
    assert list(runs_of(part, {"own": Plan.parse("0 2")}, "apply")) == ["own"]
    found = bench(part, {"own": Plan.parse("0 2"), "less": Plan.parse("2")}, SMALL)
    assert found.times[0].ratio.middle == 1
    with pytest.raises(ModelError, match="loaded"):
        runs_of(part, {"more": Plan.parse("0-2")}, "apply")


def test_what_cannot_be_timed_is_refused(model):
    with pytest.raises(UserError, match="injects: it needs a donor"):
        bench(model, {"x": Plan.parse("0-2 inject(donor) 3-5")}, SMALL)
    with pytest.raises(PlanError, match="layer 9 does not exist"):
        bench(model, {"x": Plan.parse("0-9")}, SMALL)
    with pytest.raises(UserError, match="there is no plan to time"):
        bench(model, {}, SMALL)
    longest = model.max_positions
    with pytest.raises(UserError, match=f"exceed the model's {longest} positions"):
        bench(model, {"x": HALF}, replace(SMALL, tokens=(longest,)))


def test_what_is_expected_depends_on_the_way(model):
    identity = Plan.identity(LAYERS)
    [hugging_face, engine] = (
        sum(work.flops for work in expected_work(model, way, identity, 50, 1)["prefill"])
        for way in ("apply", "engine")
    )
    assert engine < hugging_face  # it runs no row above the last attention that nobody asks for
