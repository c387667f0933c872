"""The notation: what each item means, and what is said about a text that is no plan."""

from __future__ import annotations

import random

import pytest
from plan_samples import DESIGN_EXAMPLES, HOSTILE, random_text

from impasto.plan import Freeze, Inject, Layer, Noise, Parallel, Plan, PlanError, Reach


def L(*indices: int, part: str = "block") -> tuple[Layer, ...]:  # noqa: N802
    return tuple(Layer(index, part) for index in indices)  # type: ignore[arg-type]


def lanes(*branches: tuple, combine: str = "mean") -> Parallel:
    return Parallel(branches, combine)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("0-3", L(0, 1, 2, 3)),
        ("3-0", L(3, 2, 1, 0)),
        ("5-5", L(5)),
        ("007", L(7)),
        ("2-3.mlp", L(2, 3, part="mlp")),
        ("2 . attn", L(2, part="attention")),
        ("[8-10]", (lanes(L(8), L(9), L(10)),)),
        ("[8|9|10]", (lanes(L(8), L(9), L(10)),)),
        ("[5]", (lanes(L(5)),)),
        ("[8-9.mlp]", (lanes(L(8, part="mlp"), L(9, part="mlp")),)),
        ("[8 9 | 10 11]", (lanes(L(8, 9), L(10, 11)),)),
        ("[8-11 | 4]", (lanes(L(8, 9, 10, 11), L(4)),)),
        ("[(8 9)]", (lanes(L(8, 9)),)),
        ("[(8-9)]", (lanes(L(8, 9)),)),
        ("[8*2]", (lanes(L(8, 8)),)),
        ("[8-9*2]", (lanes(L(8, 9, 8, 9)),)),
        ("[[8|9]]", (lanes((lanes(L(8), L(9)),)),)),
        ("sum[8|9]", (lanes(L(8), L(9), combine="sum"),)),
        ("sum [ 8-9 ]", (lanes(L(8), L(9), combine="sum"),)),
        ("(4 5)", L(4, 5)),
        ("(4 5)6", L(4, 5, 6)),
        ("16*3", L(16, 16, 16)),
        ("1-2*2", L(1, 2, 1, 2)),
        ("(4 5)*2*3", L(4, 5) * 6),
        ("[8-9]*2", (lanes(L(8), L(9)),) * 2),
        ("0 freeze 1", (*L(0), Freeze(), *L(1))),
        ("noise(shuffle)", (Noise("shuffle"),)),
        (
            "noise( gaussian , keep = 1 , seed = 3 )\n0",
            (Noise("gaussian", seed=3, keep=1), *L(0)),
        ),
        ("inject(my_donor-2)", (Inject("my_donor-2"),)),
        ("freeze (4 5)", (Freeze(), *L(4, 5))),
        ("freeze(prompt)", (Freeze(prompt=True),)),
        ("noise(shuffle, prompt, keep=1)", (Noise("shuffle", keep=1, prompt=True),)),
        ("8-9@0.5", (Layer(8, scale=0.5), Layer(9, scale=0.5))),
        ("8 @ +.5", (Layer(8, scale=0.5),)),
        ("8.attn@-2*2", (Layer(8, "attention", scale=-2.0),) * 2),
        ("8@1", L(8)),
        ("8@-0", (Layer(8, scale=0.0),)),
        ("(8)@0.5", (Layer(8, scale=0.5),)),
        ("(8 9)@0.5", (Parallel((L(8, 9),), scale=0.5),)),
        ("(8 9)@1", L(8, 9)),
        ("([8|9])@0.5", (Parallel((L(8), L(9)), scale=0.5),)),
        ("[8-9]@0.5*2", (Parallel((L(8), L(9)), scale=0.5),) * 2),
        ("[8-9@0.5]", (lanes((Layer(8, scale=0.5),), (Layer(9, scale=0.5),)),)),
        ("[8|]", (lanes(L(8), ()),)),
        ("[|8-9|]", (lanes((), L(8, 9), ()),)),
        ("8{last=64,first=1}", (Layer(8, reach=Reach(1, 64)),)),
        ("8.attn{last=2}@3", (Layer(8, "attention", Reach(0, 2), 3.0),)),
    ],
)
def test_each_item_stands_for_these_steps(text: str, steps: tuple) -> None:
    assert Plan.parse(text).steps == steps


@pytest.mark.parametrize("text", DESIGN_EXAMPLES)
def test_every_example_of_the_notation_reads_and_reads_back(text: str) -> None:
    plan = Plan.parse(text, layers=32)
    assert Plan.parse(str(plan)) == plan


@pytest.mark.parametrize(
    ("text", "message", "word"),
    [
        ("", "a plan needs at least one item", None),
        (" \n ", "a plan needs at least one item", None),
        ("0-15 frezze 16", "did you mean freeze?", "frezze"),
        ("0 Freeze", "did you mean freeze?", "Freeze"),
        ("0 nosie(shuffle)", "did you mean noise?", "nosie"),
        ("noise(shufle)", "did you mean shuffle?", "shufle"),
        ("noise(shuffle, sed=3)", "did you mean seed?", "sed"),
        ("noise(shuffle, seed=1, seed=2)", "given twice", "seed"),
        ("noise(shuffle, seed=-1)", "from 0 to 2**63 - 1", "-"),
        (f"noise(shuffle, seed={2**63})", "from 0 to 2**63 - 1", str(2**63)),
        ("noise 3", "noise(shuffle) or noise(gaussian)", "noise 3"),
        ("inject()", "needs the donor's name", ")"),
        ("inject(3a)", "needs the donor's name", "3a"),
        (f"inject({'n' * 65})", "at most 64", "n" * 65),
        ("24.mpl", "did you mean mlp?", ".mpl"),
        ("8.attn.mlp", "a span is", ".mlp"),
        ("8*2.mlp", "from 1 to 10000", "2.mlp"),
        ("(4 5).mlp", "only a layer or a range has parts", ".mlp"),
        ("[4-5].mlp", "only a layer or a range has parts", ".mlp"),
        ("0-3-5", "a span is", "-5"),
        ("8*0", "leave the item out", "*0"),
        ("8*", "from 1 to 10000", ""),
        ("8*x", "from 1 to 10000", "x"),
        ("*2", "needs something right before it", "*"),
        ("8*10001", "from 1 to 10000", "10001"),
        ("[8 9]", "write [8|9] for parallel layers or (8 9) for a sequence", "[8 9]"),
        ("[8-9 4*2]", "write [8|9] for parallel layers or (8 9) for a sequence", "[8-9 4*2]"),
        ("[ | ]", "at least one branch that runs something", "[ | ]"),
        ("[]", "at least one branch that runs something", "[]"),
        ("()", "at least one item", "()"),
        ("[8", "needs a ']'", "["),
        ("(8]", "needs a ')' before this ']'", "("),
        ("8)", "closes or divides nothing", ")"),
        ("8 | 9", "closes or divides nothing", "|"),
        ("sum 8", "sum[8|9]", "sum 8"),
        ("[8 | freeze]", "stands at the top level", "freeze"),
        ("(8 inject(a))", "stands at the top level", "inject"),
        ("freeze*2", "cannot be repeated", "freeze*"),
        ("noise(shuffle)*2", "cannot be repeated", "noise(shuffle)*"),
        ("freeze(3)", "freeze takes prompt or nothing", "freeze(3"),
        ("freeze(prompt", "freeze takes one word", None),
        ("freeze@2", "cannot be scaled", "freeze@2"),
        ("inject(a){last=2}", "cannot be given a reach", "inject(a){"),
        ("noise(shuffle, prompt=2)", "looks like noise(", "prompt="),
        ("noise(shuffle, prompt, prompt)", "given twice", "prompt"),
        ("8@9", "between -8 and 8", "@9"),
        ("8@", "between -8 and 8", "@"),
        ("8@x", "between -8 and 8", "@"),
        ("8@0.5@2", "reach, scale, repeat, in this order", "@2"),
        ("8*2@0.5", "reach, scale, repeat, in this order", "@0.5"),
        ("(4 5)*2@0.5", "comes before the repeat", "@0.5"),
        ("8@0.5.attn", "part, reach, scale", ".attn"),
        ("8@0.5{last=1}", "reach, scale, repeat, in this order", "{"),
        ("(8){last=1}", "write it on each one inside", "{"),
        ("[8]{last=1}", "write it on each one inside", "{"),
        ("8.mlp{last=3}", "no attention", "8.mlp{last=3}"),
        ("8{}", "a reach has first and last", "}"),
        ("8{last=0}", "at least one position", "{last=0}"),
        ("8{lats=3}", "did you mean last?", "lats"),
        ("8{last=3", "a reach looks like", None),
        ("8{last=3, last=4}", "given twice", "last"),
        ("@0.5 8", "needs something right before it", "@0.5"),
        ("[8|||||||||]*1001", "10000 layer occurrences", None),
        ("8–23", "plain hyphen", "–"),
        ("0-7, 8", "separated by spaces", ","),
        ("7freeze", "put a space", "7freeze"),
        ("16x3", "put a space", "16x3"),
        ("²", "not part of the notation", "²"),
        ("٣", "not part of the notation", "٣"),
        ("100000", "from 0 to 99999", "100000"),
        ("0-9999 0", "10000 layer occurrences", "0"),
        ("[0-9999]*2", "it would reach 20000", "[0-9999]*2"),
        ("0 " * 5001, "at most 10000 characters", None),
        ("(" * 33 + "0" + ")" * 33, "at most 32 deep", "("),
    ],
)
def test_a_wrong_text_names_the_word_and_what_would_be_right(
    text: str, message: str, word: str | None
) -> None:
    with pytest.raises(PlanError) as caught:
        Plan.parse(text)
    assert message in caught.value.message
    if word is not None:
        start, end = caught.value.span
        assert text[start:end] == word


@pytest.mark.parametrize(
    ("text", "layers", "word", "have"),
    [
        ("0-15 40 16", 32, "40", "layers 0..31"),
        ("0-32", 32, "32", "layers 0..31"),
        ("0 [1 | (2-7.mlp)*3]", 6, "7", "layers 0..5"),
        ("0 - 1", 1, "1", "layer 0 only"),
    ],
)
def test_a_missing_layer_is_named_when_reading_and_when_checking(
    text: str, layers: int, word: str, have: str
) -> None:
    for refuse in (lambda: Plan.parse(text, layers), lambda: Plan.parse(text).check(layers)):
        with pytest.raises(PlanError, match=f"layer {word} does not exist") as caught:
            refuse()
        start, end = caught.value.span
        assert caught.value.text[start:end] == word
        assert caught.value.message.endswith(f"this model has {have}")


def test_the_caret_stands_under_the_offending_word() -> None:
    with pytest.raises(PlanError) as caught:
        Plan.parse("0-15 frezze 16-31")
    message, line, caret = str(caught.value).split("\n")
    assert message == "frezze is no word of the notation: did you mean freeze?"
    assert line == "  0-15 frezze 16-31"
    assert caret == "       ^~~~~~"


def test_a_long_or_strange_text_is_shown_in_one_safe_line_of_eighty_columns() -> None:
    text = "0 1 2\n" * 300 + "\x1b[31m 界 frezze " + "0\n" * 300
    with pytest.raises(PlanError) as caught:
        Plan.parse(text.replace("\x1b[31m", "").replace("界", "") + "\x1b界")
    _, line, caret = str(caught.value).split("\n")
    assert len(line) <= 80
    assert line[caret.index("^") :].startswith("frezze")
    with pytest.raises(PlanError) as caught:
        Plan.parse("0 界\x1b")
    assert str(caught.value).isprintable() or "\x1b" not in str(caught.value)


@pytest.mark.parametrize("value", [None, 3, b"0-31", ["0"], object()])
def test_anything_but_text_is_a_plan_error(value: object) -> None:
    with pytest.raises(PlanError, match="a plan is text"):
        Plan.parse(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("layers", [0, -1, True, 2.0, "32"])
def test_a_number_of_layers_is_a_positive_whole_number(layers: object) -> None:
    with pytest.raises(PlanError, match="number of layers"):
        Plan.parse("0", layers=layers)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_is_read_or_refused_but_never_expanded(name: str) -> None:
    try:
        plan, told = Plan.parse(HOSTILE[name]), ""
    except PlanError as error:
        plan, told = None, str(error)
    assert all(len(line) <= 160 for line in told.split("\n"))
    assert plan is None or plan.occurrences.layers <= 10_000


def test_random_and_mutated_texts_raise_nothing_but_plan_errors() -> None:
    rng = random.Random(0)
    plans = 0
    for _ in range(20_000):
        text = random_text(rng)
        try:
            plan = Plan.parse(text, layers=rng.choice((None, 32)))
        except PlanError as error:
            str(error)
        else:
            plans += 1
            if len(plan.steps) < 200:
                assert Plan.parse(str(plan)) == plan
    assert plans > 500
