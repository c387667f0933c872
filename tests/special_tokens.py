"""Small random models whose tokenizers put special tokens around a text, by a template."""

import torch

import impasto

NAMES = ("<s>", "[SEP]", "</s>")
TEMPLATES = {
    "none": "$A",
    "[SEP] after": "$A [SEP]",
    "[CLS] and [SEP]": "<s> $A [SEP]",
    "BOS before": "<s> $A",
    "BOS and EOS": "<s> $A </s>",
}
CHAT = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "{% if enable_thinking is defined and enable_thinking %}[think]{% endif %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def tokenizer_of(template, **names):
    """Return the demo model's tokenizer with a template; by default it has BOS and EOS."""
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer.from_str(impasto.load("demo").tokenizer.backend_tokenizer.to_str())
    inner.add_special_tokens(list(NAMES))
    inner.post_processor = processors.TemplateProcessing(
        single=TEMPLATES[template], special_tokens=[(n, inner.token_to_id(n)) for n in NAMES]
    )
    names = {"bos_token": "<s>", "eos_token": "</s>"} | names
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<|end|>", **names)
    tokenizer.chat_template = CHAT
    return tokenizer


def random_model(tokenizer, positions=192):
    """Return a random Llama of four layers with a tokenizer's vocabulary."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=positions,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    hf = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for weight in hf.parameters():
            weight.mul_(4) if weight.ndim > 1 else None
    return hf


def saved(folder, template, positions=192, **names):
    """Write such a model with its tokenizer to a folder and return its name."""
    tokenizer = tokenizer_of(template, **names)
    random_model(tokenizer, positions).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
