"""The command line with encoders: what runs on them, and what is refused."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

from encoders import encoder
from impasto.cli import app

WORDS = ["[PAD]", "[UNK]", "[MASK]", "paris", "is", "in", "france"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random BERT that reads seven words."""
    place = tmp_path_factory.mktemp("bert")
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, mask_token="[MASK]", pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(place)
    encoder("bert").save_pretrained(place)
    return str(place)


def said(*words):
    result = CliRunner().invoke(app, words)
    return result.exit_code, result.output


def test_masks_are_filled_in_beside_the_unchanged_encoder(folder):
    code, output = said("fill", "paris is in [MASK]", "--model", folder, "--plan", "5-0")
    assert code == 0
    assert "baseline: 0-5\n" in output
    assert "plan: 5-0\n" in output


def test_models_says_what_the_check_found(folder):
    code, output = said("models", folder)
    assert code == 0
    assert "bert, 6 layers; plans run on it" in output
    assert "norms after the parts" in output
    assert "ModernBERT" in said("models")[1]


def test_explain_counts_against_an_encoders_layers(folder):
    code, output = said("explain", "--model", folder, "--plan", "0-2 3-5.mlp")
    assert code == 0
    assert "attention 3 times, MLP 6 times (75.0 %" in output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["generate", "paris", "--plan", "0-5"], "generate is for decoders"),
        (["fill", "paris is", "--plan", "0-5"], "nothing to fill in"),
        (["fill", "paris [MASK]", "--plan", "0-2 freeze 3-5"], "about earlier tokens"),
        (["export", "gone", "--plan", "0-3 4.mlp"], "a planned folder is written for decoders"),
    ],
)
def test_what_an_encoder_cannot_do_is_one_message(folder, words, says, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [*words, "--model", folder])
    assert result.exit_code == 2
    assert says in " ".join(result.output.split())
    assert not list(tmp_path.iterdir())


def test_a_decoder_fills_in_nothing():
    code, output = said("fill", "a", "--plan", "0-5", "--model", "demo")
    assert code == 2
    assert "fill is for encoders" in output
