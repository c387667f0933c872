"""A tiny random BERT that reads words, and made-up examples in GLUE's columns."""

import json
import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
GOOD, BAD = ["good", "fine", "lovely", "great"], ["bad", "dull", "awful", "poor"]
OTHER = ["the", "film", "is", "a", "plot", "and", "its", "cast", "seems", "very"]


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of whole words, with BERT's special tokens."""
    words = [*SPECIAL, *GOOD, *BAD, *OTHER]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    made.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names: dict[str, Any] = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]"}
    names["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=made, sep_token="[SEP]", mask_token="[MASK]", **names
    )


def bert(folder: Path, layers: int = 4) -> str:
    """Write the model and its tokenizer to a folder."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=32, hidden_size=32, intermediate_size=64, num_hidden_layers=layers,
        num_attention_heads=4, max_position_embeddings=64, initializer_range=0.2,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


def sentence(label: int, draw: random.Random) -> str:
    """Return a sentence with one word that says which class it is of."""
    words = [draw.choice(OTHER) for _ in range(draw.randint(3, 9))]
    words.insert(draw.randrange(len(words)), draw.choice(GOOD if label else BAD))
    return " ".join(words)


def files(folder: Path, train: int = 160, validation: int = 24) -> dict[str, Any]:
    """Write examples of three tasks of GLUE; return a study's `data`."""
    draw = random.Random(0)
    found: dict[str, dict[str, str]] = {}
    for name in ("sst2", "mrpc", "stsb"):
        found[name] = {}
        for split, count in (("train", train), ("validation", validation)):
            rows = []
            for number in range(count):
                one, two = number % 2, draw.randrange(2)
                if name == "sst2":
                    rows.append({"sentence": sentence(one, draw), "label": one})
                else:
                    same = int(one == two)
                    label = same if name == "mrpc" else 1.5 + 2 * same
                    texts = {"sentence1": sentence(one, draw), "sentence2": sentence(two, draw)}
                    rows.append(texts | {"label": label})
            path = folder / f"{name}_{split}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            found[name][split] = str(path)
    return found
