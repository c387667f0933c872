"""Where weights go: where it is said, else on an accelerator that they fit on, else here."""

import pytest
import torch

import impasto
from impasto import Plan, UserError
from impasto.model.loading import placing
from impasto.model.loading.files import weight_bytes

GIB = 2**30


@pytest.fixture
def two_cards(monkeypatch):
    """Let this machine seem to have two accelerators with 10 and 20 GiB free."""
    monkeypatch.setattr(placing, "accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(placing, "free_by_device", lambda kind: {0: 10 * GIB, 1: 20 * GIB})
    monkeypatch.setattr(placing, "device_of", lambda name: torch.device(name))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)


@pytest.mark.parametrize(
    ("size", "place"),
    [
        (1, {"": torch.device("cuda:1")}),
        (16, {"": torch.device("cuda:1")}),
        (18, "auto"),
        (24, "auto"),
        (26, None),
    ],
)
def test_weights_go_where_they_leave_room(two_cards, size, place):
    assert placing.placed({}, lambda: size * GIB).get("device_map") == place


def test_what_is_said_holds(two_cards):
    spread = placing.placed({"device_map": "auto"}, lambda: 1)
    assert spread["device_map"] == "auto"
    assert placing.placed({"device_map": "cpu"}, lambda: 1)["device_map"] == {
        "": torch.device("cpu")
    }
    assert placing.placed({"device_map": {"a": 0}}, lambda: 1)["device_map"] == {"a": 0}


def test_weights_that_do_not_fit_are_told_with_what_would(two_cards):
    with pytest.raises(UserError, match=r"take 12\.00 GiB, and cuda:0 has 10\.00 GiB free.*4bit"):
        placing.placed({"device_map": "cuda:0"}, lambda: 12 * GIB)


def test_weights_that_fit_nowhere_are_told_before_they_are_read(two_cards):
    with pytest.raises(UserError, match=r"take 1048576\.00 GiB, and the processor has .*, "
                       r"cuda:0 10\.00 GiB free, cuda:1 20\.00 GiB free; .*4bit"):  # fmt: skip
        placing.check_room({}, 2**20 * GIB)
    with pytest.raises(UserError, match="the processor has"):
        placing.check_room({"device_map": {"": torch.device("cpu")}}, 2**20 * GIB)
    placing.check_room({"device_map": {"": torch.device("cuda:1")}}, 2**20 * GIB)
    placing.check_room({"device_map": "auto"}, 2**20 * GIB)
    placing.check_room({}, None)
    placing.check_room({}, 1)


def test_a_model_is_refused_that_fits_nowhere(monkeypatch):
    monkeypatch.setattr("impasto.model.loading.load.weight_bytes", lambda *_, **__: 2**60)
    for plan in (None, Plan.parse("0-3")):
        with pytest.raises(UserError, match=r"the weights take 1073741824\.00 GiB"):
            impasto.load("demo", plan=plan)


@pytest.mark.parametrize("line", ["0-11", "0-5 7 7 9", "3"])
def test_of_a_plan_the_layers_that_it_names_must_fit(line, monkeypatch):
    plan = Plan.parse(line)
    loaded = impasto.load("demo", plan=plan)
    taken = sum(weight.nbytes for weight in loaded.hf.parameters())
    assert weight_bytes("demo", plan) == taken
    asked = []
    monkeypatch.setattr(
        "impasto.model.loading.load.placed", lambda given, size: asked.append(size()) or given
    )
    impasto.load("demo", plan=plan)
    assert asked == [taken]


def test_a_device_that_is_not_there_is_told_with_those_that_are(monkeypatch):
    monkeypatch.setattr(placing, "accelerator", lambda: None)
    with pytest.raises(UserError, match=r"no device 'gpu' here .*there is cpu"):
        impasto.load("demo", device_map="gpu")


def test_without_accelerators_there_is_nothing_to_choose_and_nothing_is_said(monkeypatch):
    monkeypatch.setattr(placing, "accelerator", lambda: None)
    assert placing.placed({"dtype": "auto"}, lambda: 1) == {"dtype": "auto"}
    assert placing.told(torch.nn.Linear(2, 2)) is None


def test_an_idle_accelerator_is_not_passed_over_in_silence(two_cards):
    small, large = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    large.weight = torch.nn.Parameter(torch.empty(30 * GIB // 4, 1, device="meta"))
    assert "--device cuda uses the accelerator" in (placing.told(small) or "")
    assert "on cpu" in (placing.told(small) or "")
    assert "20.00 GiB free, which is too little" in (placing.told(large) or "")
