"""Opens exported folders where impasto cannot be imported; what `test_without_impasto` runs.

    reload.py JOBS.pt   a list of (folder, prompt, count of tokens to write)

Prints, as one line of JSON per folder: the largest difference from the logits that lie beside the
prompt, and the tokens that `generate` writes with and without a cache.
"""

import json
import sys
from typing import Any


class NoImpasto:
    """Finds impasto nowhere, however it is installed."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "impasto":
            raise ModuleNotFoundError("impasto is not installed here")
        return


def main(path):
    sys.meta_path.insert(0, NoImpasto())
    try:
        import impasto  # noqa: F401
    except ModuleNotFoundError:
        pass
    else:
        sys.exit("impasto can be imported, so nothing would be shown")
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    for folder, runs_code, ids, logits, count in torch.load(path):
        code = {"trust_remote_code": True} if runs_code else {}
        hf: Any = AutoModelForCausalLM.from_pretrained(folder, **code)
        with torch.no_grad():
            found = hf(input_ids=ids).logits
        written = [
            hf.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False,
                pad_token_id=0, use_cache=use_cache,
            )[0, ids.shape[1] :].tolist()
            for use_cache in (True, False)
        ]  # fmt: skip
        difference = float((found[0] - logits).abs().max() / logits.abs().max())
        print(json.dumps({"folder": folder, "difference": difference, "written": written}))
    assert "impasto" not in sys.modules


if __name__ == "__main__":
    main(sys.argv[1])
