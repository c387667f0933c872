"""What llama.cpp makes of a GGUF file, by llama-cpp-python: a script of its own.

It is run in a process of its own, for llama.cpp ends the process where a file is not as it should
be. It reads one JSON document and writes another; the logits go to a file.
"""

import ctypes
import json
import sys
from typing import Any


def main() -> None:
    """Answer one question: logits after each token of a text, and the tokens of some texts."""
    import llama_cpp  # type: ignore[import-not-found]
    import numpy as np

    asked: dict[str, Any] = json.loads(sys.stdin.read())
    llama_cpp.llama_log_set(_SILENT, ctypes.c_void_p(0))
    model = llama_cpp.Llama(
        asked["file"],
        n_ctx=len(asked["ids"]) + 8,
        n_threads=1,
        n_gpu_layers=0,
        logits_all=True,
        verbose=False,
        type_k=llama_cpp.GGML_TYPE_F32,
        type_v=llama_cpp.GGML_TYPE_F32,
    )
    model.eval(asked["ids"][: -asked["one_by_one"]])
    for token in asked["ids"][-asked["one_by_one"] :]:
        model.eval([token])
    np.asarray(model.scores[: len(asked["ids"])], dtype=np.float32).tofile(asked["logits"])
    tokens = [
        model.tokenize(text.encode(), add_bos=False, special=False) for text in asked["texts"]
    ]
    print(json.dumps({"tokens": tokens}))


@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
def _SILENT(level: int, text: bytes, data: Any) -> None:  # noqa: N802
    pass


if __name__ == "__main__":
    main()
