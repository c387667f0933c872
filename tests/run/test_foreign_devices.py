"""Models on other devices than the processor answer as on it, whatever is asked.

On one device, spread over two, and moved there after it was opened. The devices are those of
:mod:`foreign`: they refuse what a GPU refuses.
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend

import impasto
from encoders import ENCODERS
from families import FAMILIES, SEQUENTIAL, VOCABULARY, weighted
from foreign import AVAILABLE, DEVICES, OWN, attended, foreign_devices, moved, spread
from impasto import Donor, Plan
from impasto.run.attention.kernels import aligned, is_aligned, kernel_for
from impasto.run.execute import logits
from impasto.run.opening import opened
from impasto.run.tuning import PLANS_COMPARED_AT_ONCE
from plans import (
    ENCODER_INJECTING_PLANS,
    ENCODER_PLANS,
    INJECTING_PLANS,
    INJECTING_PROMPTED_PLANS,
    PLANS,
    PROMPTED_PLANS,
)
from thinning import thinned

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="this torch has no Python backend")

QUICK = {"llama": ("one", "two", "moved"), "gemma3": ("two",), "bloom": ("moved",)}
IDS = [3, 1, 4, 1, 5, 9, 2, 6]
PROMPTS = [IDS, IDS[:5]]
REQUESTS = [(IDS[:5], [7]), (IDS[:5], [8, 9]), (IDS[:3], [2])]
DONORS = {name: Donor([2, 7, 1, 8, 2], (1, 3), (1, 3)) for name in "ab"}


def opened_there(place: str, hf: Any) -> Any:
    """Return a model that is opened on a foreign device, or brought there when it is open."""
    if place == "two":
        return impasto.load(spread(hf))
    if place == "one":
        return impasto.load(moved(hf))
    model = impasto.load(hf)
    model.loglikelihood(PLANS[:3], REQUESTS)
    model.generate(PLANS[:1], PROMPTS, max_new_tokens=2)
    moved(hf)
    return model


def scores(model: Any, plans: list[Plan]) -> torch.Tensor:
    return torch.tensor(model.loglikelihood(plans, REQUESTS, donors=DONORS))


def next_logits(model: Any) -> torch.Tensor:
    padded = torch.tensor([IDS, [0, 0, 0, *IDS[:5]]])
    real = torch.ones_like(padded)
    real[1, :3] = 0
    plans = [*PLANS[1::11], *INJECTING_PLANS[::5], PROMPTED_PLANS[0]]
    given = [model.next_logits(plan, padded, real, donors=DONORS) for plan in plans]
    return torch.stack([logits.cpu() for logits in given])


def hidden_states(model: Any) -> torch.Tensor:
    plans = [*PLANS[2::11], INJECTING_PLANS[1]]
    given = [model.hidden_states(plan, PROMPTS, donors=DONORS) for plan in plans]
    return torch.cat([states.cpu().flatten() for texts in given for states in texts])


def generated_under(model: Any) -> list[Any]:
    written = []
    for plan in [*PLANS[3::11], PLANS[-3], PROMPTED_PLANS[0]]:
        with impasto.apply(model.hf, plan):
            ids = torch.tensor([IDS]).to(model.hf.get_input_embeddings().weight.device)
            given = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 3}
            tokens = model.hf.generate(ids, do_sample=False, pad_token_id=0, **given)
            written.append(tokens.cpu().tolist())
    return written


def masked_logits(model: Any) -> torch.Tensor:
    padded = torch.tensor([IDS, [*IDS[:5], 1, 1, 1]])
    real = (torch.arange(8) < torch.tensor([[8], [5]])).long()
    plans = [*ENCODER_PLANS[1::9], *ENCODER_INJECTING_PLANS[:2]]
    given = [model.token_logits(plan, padded, real, donors=DONORS).cpu() for plan in plans]
    return torch.stack([logits[real.bool()] for logits in given])


def masked_scores(model: Any) -> torch.Tensor:
    model.mask_token = 11
    plans = [*ENCODER_PLANS[::7], ENCODER_INJECTING_PLANS[1]]
    said = model.masked_scores(plans, PROMPTS, donors=DONORS)
    return torch.tensor(said, dtype=torch.float64)


QUESTIONS: dict[str, Callable[[Any], Any]] = {
    "scores": lambda m: scores(m, PLANS[::4]),
    "scores with prompts": lambda m: scores(m, PROMPTED_PLANS[::2]),
    "scores with donors": lambda m: scores(
        m, [*INJECTING_PLANS[::2], *INJECTING_PROMPTED_PLANS[::2]]
    ),
    "texts": lambda m: m.generate(PLANS[::6], PROMPTS, max_new_tokens=3),
    "texts with prompts": lambda m: m.generate(PROMPTED_PLANS[::4], PROMPTS, max_new_tokens=3),
    "texts with donors": lambda m: m.generate(
        INJECTING_PLANS[1::4], PROMPTS, max_new_tokens=2, donors=DONORS
    ),
    "next logits": next_logits,
    "hidden states": hidden_states,
    "fidelity": lambda m: torch.tensor(m.fidelity(PLANS[::8], PROMPTS), dtype=torch.float64),
    "texts under a plan in a Hugging Face forward": generated_under,
}


def refuse_difference(question: str, answer: Any, expected: Any) -> None:
    if not isinstance(answer, torch.Tensor):
        assert answer == expected, question
        return
    torch.testing.assert_close(
        answer, expected, atol=1e-4, rtol=1e-4, msg=lambda said: f"{question}: {said}"
    )


def cases() -> Iterator[Any]:
    for name in (*FAMILIES, "bamba", "lfm2", "qwen3_next"):
        for place in ("one", "two", "moved"):
            marks = () if place in QUICK.get(name, ()) else (pytest.mark.slow,)
            yield pytest.param(name, place, marks=marks)


@pytest.mark.parametrize("place", ["one", "two"])
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in ENCODERS])
def test_so_does_an_encoder(name, place):
    hf = weighted(ENCODERS[name]()).requires_grad_(False)
    processor = impasto.load(copy.deepcopy(hf))
    with foreign_devices():
        model = opened_there(place, hf)
        for ask in (masked_logits, masked_scores):
            refuse_difference(ask.__name__, ask(model), ask(processor))


def test_a_model_may_be_moved_while_a_plan_is_applied_to_it():
    hf = weighted(FAMILIES["bloom"]()).requires_grad_(False)
    ids = torch.tensor([IDS])
    with foreign_devices(), impasto.apply(hf, PLANS[24]):
        expected = hf(ids).logits
        moved(hf)
        refuse_difference("logits", hf(ids.to(DEVICES[0])).logits.cpu(), expected)


@pytest.mark.parametrize(("name", "place"), thinned(cases(), 2))
def test_a_device_gives_what_the_processor_gives(name, place):
    hf = weighted({**FAMILIES, **SEQUENTIAL}[name]()).requires_grad_(False)
    processor = impasto.load(copy.deepcopy(hf))
    expected = {question: ask(processor) for question, ask in QUESTIONS.items()}
    with foreign_devices():
        model = opened_there(place, hf)
        for question, ask in QUESTIONS.items():
            answer = ask(model)
            refuse_difference(question, answer, expected[question])


def llama_in(dtype: torch.dtype) -> Any:
    hf = weighted(FAMILIES["llama"]()).requires_grad_(False).to(dtype)
    with foreign_devices():
        model = impasto.load(moved(hf))
        scores(model, PLANS[:1])
    return model


@pytest.fixture(scope="module")
def halved():
    return llama_in(torch.bfloat16)


@pytest.fixture(scope="module")
def llama():
    return llama_in(torch.float32)


def test_a_sweep_waits_once_for_each_group_however_many_plans_there_are(llama):
    for plans in ([*PLANS, *PROMPTED_PLANS], [*INJECTING_PLANS, *INJECTING_PROMPTED_PLANS]):
        with foreign_devices() as waits:
            llama.loglikelihood(plans, REQUESTS, donors=DONORS)
            counted = waits.total() - waits.pop(OWN, 0)
        assert counted == 1, waits


@pytest.mark.parametrize("ask", ["masked_scores", "fill"])
def test_an_encoders_sweep_waits_no_oftener_for_more_plans(ask):
    counts, prompts = [], [[3, 11, 5, 7], [11, 8, 11]]
    with foreign_devices() as waits:
        model: Any = impasto.load(moved(weighted(ENCODERS["bert"]()).requires_grad_(False)))
        model.mask_token = 11
        for plans in (1, 1, 8):  # at first, it finds out what the model takes
            waits.start()
            getattr(model, ask)(ENCODER_PLANS[:plans], prompts)
            counts.append(waits.total() - waits.pop(OWN, 0))
    assert counts[1] == counts[2] <= 3, waits


def test_fidelity_waits_once_for_each_set_of_plans_that_are_compared(llama):
    with foreign_devices() as waits:
        llama.fidelity(PLANS[:40], PROMPTS)
        counted = waits.total() - waits.pop(OWN, 0)
    assert counted <= 40 / PLANS_COMPARED_AT_ONCE + 1, waits


def test_a_decoding_step_waits_for_its_tokens_alone(llama):
    lines = ("0-5", "0-2 freeze 3 noise(gaussian) 4-5", "0-3 freeze(prompt) [4|5]")
    plans = [Plan.parse(line) for line in lines]
    counts = {}
    for tokens in (5, 13):
        with foreign_devices() as waits:
            llama.generate(plans, PROMPTS, max_new_tokens=tokens)
            counts[tokens] = Counter(waits)
    further = counts[13] - counts[5]
    assert further.pop("tolist") == 8
    assert further.pop(OWN, 0) <= 8  # it looks at positions as it prepares masks
    assert not further


def test_logits_are_the_same_in_slabs_of_any_size(llama, monkeypatch):
    plans = PLANS[::9]
    with foreign_devices():
        expected = scores(llama, plans), llama.fidelity(plans, PROMPTS)
        monkeypatch.setattr(logits, "LOGITS_AT_ONCE_ELSEWHERE", 3 * VOCABULARY)
        monkeypatch.setattr(logits, "NORMALISED_AT_ONCE_ELSEWHERE", 2 * VOCABULARY)
        refuse_difference("scores", scores(llama, plans), expected[0])
        found = torch.tensor(llama.fidelity(plans, PROMPTS), dtype=torch.float64)
        refuse_difference("fidelity", found, torch.tensor(expected[1], dtype=torch.float64))


@pytest.mark.parametrize(
    "name",
    ["llama", *(pytest.param(n, marks=pytest.mark.slow) for n in ("gemma3", "falcon_alibi"))],
)
def test_in_half_precision_keys_lie_as_kernels_need_them(name):
    hf = weighted(FAMILIES[name]()).requires_grad_(False).bfloat16()
    plans = [Plan.parse(line) for line in ("0-5", "0-2 freeze 3-5", "0-2 freeze 3.attn 4-5")]
    expected = impasto.load(copy.deepcopy(hf)).generate(plans, PROMPTS, max_new_tokens=3)
    with foreign_devices():
        model = impasto.load(moved(hf))
        scores(model, plans)
        attended.clear()
        written = model.generate(plans, PROMPTS, max_new_tokens=20)
    assert [[text[:3] for text in row] for row in written] == expected
    decoded = [given for given in attended if given[1].shape[2] % 64 == 0]
    assert len(decoded) > 100
    for query, key, value, mask in decoded:
        assert key.stride(-1) == value.stride(-1) == 1
        assert kernel_for(query, key, value, mask) is SDPBackend.EFFICIENT_ATTENTION


def test_shapes_come_again_from_token_to_token(halved):
    shapes = {}
    with foreign_devices():
        halved.generate(Plan.identity(6), PROMPTS, max_new_tokens=1)  # tries what the model takes
    for tokens in (5, 12):
        attended.clear()
        with foreign_devices():
            halved.generate(Plan.parse("0-5.attn"), PROMPTS, max_new_tokens=tokens)
            halved.generate(Plan.parse("0-2 freeze 3-5"), PROMPTS, max_new_tokens=tokens)
        shapes[tokens] = {tuple(each.shape for each in given) for given in attended}
    assert shapes[5] == shapes[12]


def test_keys_are_not_repeated_for_the_query_heads_that_share_them(halved):
    with foreign_devices():
        attended.clear()
        halved.generate(Plan.parse("0-5"), PROMPTS, max_new_tokens=9)
    decoded = [key for query, key, *_ in attended if key.shape[2] == 64]
    assert decoded
    assert all(key.shape[1] == halved.hf.config.num_key_value_heads for key in decoded)


def test_masks_of_any_length_are_laid_out_for_kernels_once():
    for keys in range(1, 20):
        mask = torch.rand(2, 1, 3, keys)
        laid_out = aligned(mask)
        assert is_aligned(laid_out)
        assert aligned(laid_out) is laid_out
        assert torch.equal(laid_out, mask)


def test_masks_stay_laid_out_on_a_second_device():
    with foreign_devices():
        model = impasto.load(spread(weighted(FAMILIES["llama"]()).requires_grad_(False).bfloat16()))
        attended.clear()
        for line in ("0-5", "0-2 freeze 3-5"):
            model.generate(Plan.parse(line), PROMPTS, max_new_tokens=9)
    decoded = [given for given in attended if given[1].shape[2] == 64]
    assert {str(query.device) for query, *_ in decoded} == set(DEVICES)
    for query, key, value, mask in decoded:
        assert kernel_for(query, key, value, mask) is SDPBackend.EFFICIENT_ATTENTION


@pytest.mark.parametrize("place", [moved, spread], ids=["one device", "two devices"])
def test_texts_behind_one_beginning_are_those_of_the_processor(place):
    prompts = [[*range(3, 67), 40 + at % 30, at] for at in range(24)]
    plans = [Plan.parse(line) for line in ("0-5", "0-2 freeze 3-5", "5-0")]
    here = impasto.load(weighted(FAMILIES["llama"]())).generate(plans, prompts, max_new_tokens=4)
    with foreign_devices():
        model = impasto.load(place(weighted(FAMILIES["llama"]()).requires_grad_(False)))
        assert model.generate(plans, prompts, max_new_tokens=4) == here
    assert opened(model.hf).reads_common
