"""The opening check of encoders: what is taken for granted is proved on the model, or refused."""

import pytest
import torch
from torch import nn

import impasto
from encoders import ENCODERS, encoder
from impasto import Plan, UserError
from impasto.model.checks.encoder import check_encoder
from impasto.model.encoder import open_encoder
from impasto.model.structure.anatomy import ModelError


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", list(ENCODERS))
def test_a_block_is_its_residual_and_two_parts(name, attention):
    found = check_encoder(open_encoder(encoder(name, attention)))
    assert not found.undivided
    assert found.divided is not None
    assert max(found.states, *found.divided[:2], found.padding) < 1e-5
    assert found.divided.norms == ("before" if name == "modernbert" else "after")


def broken(change):
    """Return a BERT with a module that computes more than impasto takes for granted."""
    hf = ENCODERS["bert"]().eval()
    module, forward = change(hf)
    own = type(module)
    module.__class__ = type("Broken", (own,), {"forward": forward(own)})
    return hf


def scaled_residual(hf):
    def forward(own):
        return lambda self, states, before: own.forward(self, states, 2 * before)

    return hf.bert.encoder.layer[1].attention.output, forward


def scaled_output(hf):
    def forward(own):
        return lambda self, states, before: own.forward(self, states, 2 * before)

    return hf.bert.encoder.layer[4].output, forward


def refuses_zeros(hf):
    def forward(own):
        def run(self, states, before):
            if not states.any():
                raise ValueError("nothing to add")
            return own.forward(self, states, before)

        return run

    return hf.bert.encoder.layer[2].output, forward


def counts_padding(hf):
    def forward(own):
        def run(self, *args, **kwargs):
            states = own.forward(self, *args, **kwargs)
            return states + states.mean(1, keepdim=True)

        return run

    return hf.bert.embeddings, forward


@pytest.mark.parametrize(
    ("change", "layer", "says"),
    [
        (scaled_residual, 1, "attention does not only add"),
        (scaled_output, 4, "not residual"),
        (refuses_zeros, 2, "its own code fails without one of its parts"),
    ],
)
def test_a_layer_that_is_not_its_parts_runs_whole(change, layer, says):
    hf = broken(change)
    model, ids = impasto.load(hf), torch.tensor([[5, 17, 3, 88]])
    with torch.no_grad():
        own = hf(input_ids=ids).logits
    torch.testing.assert_close(model.token_logits(Plan.identity(6), ids), own)
    others = Plan.parse("0.attn 3.mlp 5")
    assert model.token_logits(others, ids).isfinite().all()
    for part in ("attn", "mlp"):
        with pytest.raises(
            ModelError, match=f"part of layer {layer} .* can only run whole.*{says}"
        ):
            model.token_logits(Plan.parse(f"0 {layer}.{part}"), ids)
    assert any(says in sentence for sentence in model.limits)


def test_a_model_that_reads_padding_is_refused_with_the_claim():
    with pytest.raises(ModelError, match="depend on the padding beside a longer one"):
        impasto.load(broken(counts_padding))


def test_a_layer_without_parts_under_a_known_name_runs_whole():
    hf = ENCODERS["bert"]().eval()
    for block in hf.bert.encoder.layer:
        block.dense = block._modules.pop("intermediate")
        block.__dict__["intermediate"] = block.dense  # its own forward finds it
    model, ids = impasto.load(hf), torch.tensor([[5, 17, 3, 88]])
    with torch.no_grad():
        own = hf(input_ids=ids).logits
    torch.testing.assert_close(model.token_logits(Plan.identity(6), ids), own)
    with pytest.raises(ModelError, match="is known by its name as its MLP"):
        model.token_logits(Plan.parse("0 1.attn"), ids)


def test_a_model_without_blocks_is_refused():
    hf = ENCODERS["bert"]().eval()
    hf.bert.encoder.layer = nn.ModuleList([nn.Linear(2, 2)])
    with pytest.raises(ModelError, match="holds as many blocks"):
        impasto.load(hf)


def test_what_is_done_between_two_layers_is_found_out():
    """DeBERTa's convolution is a part of layer 0; taken for nothing, the model is refused."""
    opened = open_encoder(encoder("deberta_v2_conv"))
    opened.convolution = None
    with pytest.raises(ModelError, match="does not give its own states"):
        check_encoder(opened)


@pytest.mark.parametrize("name", list(ENCODERS))
def test_a_checkpoint_opens_as_what_it_is(name, tmp_path):
    """With the head that it holds; without one it opens all the same."""
    hf = encoder(name)
    hf.save_pretrained(tmp_path / "masked")
    hf.base_model.save_pretrained(tmp_path / "base")
    masked, base = impasto.load(tmp_path / "masked"), impasto.load(tmp_path / "base")
    assert type(masked.hf) is type(hf)
    assert type(base.hf) is type(hf.base_model)
    plan, text = Plan.parse("0 [1|2] 4-5"), [[5, 17, 3, 88]]
    [found], [expected] = base.hidden_states(plan, text), masked.hidden_states(plan, text)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["bert", "modernbert", "deberta_v2_conv"])
def test_only_the_layers_of_a_plan_are_loaded(name, tmp_path):
    encoder(name).save_pretrained(tmp_path / "model")
    plan, ids = Plan.parse("4 1 [1|4.mlp] 4"), torch.tensor([[5, 17, 3, 88]])
    model = impasto.load(tmp_path / "model", plan=plan)
    whole = impasto.load(tmp_path / "model")
    assert sum(w.numel() for w in model.hf.parameters()) < sum(
        w.numel() for w in whole.hf.parameters()
    )
    assert torch.equal(model.token_logits(plan, ids), whole.token_logits(plan, ids))
    with pytest.raises(UserError, match="not loaded"):
        model.token_logits(Plan.parse("0-5"), ids)


def test_a_checkpoint_without_its_head_is_not_given_a_made_up_one(tmp_path):
    """ELECTRA's discriminator is stored with another head; BERT may be stored without any."""
    from transformers import ElectraForPreTraining

    ElectraForPreTraining(encoder("electra").config).save_pretrained(tmp_path / "model")
    model = impasto.load(tmp_path / "model")
    with pytest.raises(UserError, match="without the head"):
        model.fill(Plan.identity(6), [[3]])
