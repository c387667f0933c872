"""Machine constants: what was measured, or chosen, about machines and libraries, in one place.

None changes an answer beyond rounding; each says its unit and how it came about. "cpu" values were
taken on two cores with AVX2 and torch 2.13 in single precision, with the benchmarks named. What has
no "cpu" value elsewhere uses the other, which is a guess until it is measured on a GPU.
"""

# Batches: by benchmarks/sweep.py and plan_cost.py.
ROWS_PER_CALL = 8192
"""Rows (padding included) that one call of a block runs at the most."""
ROWS_AT_ONCE = {"cpu": 2048}
"""Rows by device after which more at once is no faster, since they outgrow the caches."""
PRODUCTS_PER_CALL = {"cpu": 2.6e7}
"""Multiplications by device that take as long as a call of a block costs anyway."""
PRODUCTS_PER_CALL_ELSEWHERE = 1e11
"""The same where the device has no value of its own: a GPU's launch and its idle cores."""
ROWS_OF_SENTENCES = 65536
"""Rows of an encoder's batch at the most."""
LEAST_PREFIX = 256
"""Tokens of a beginning that is read once for several sequences, whatever a call costs (chosen)."""
SHARE_OF_FREE_MEMORY = {"cpu": 0.5}
"""The share by device of the memory that is free which a batch may take where nobody says (chosen:
others use a processor's memory, too)."""
SHARE_OF_FREE_MEMORY_ELSEWHERE = 0.8
"""The same where the device has no value of its own (chosen: what is expected of a batch was within
a tenth of what it took, and where memory runs out it runs again in halves)."""
CALIBRATION_ROWS = 1024
"""Rows on which a layer is timed, for estimates (chosen: a tenth of a second on a small model)."""

# What torch's kernels on a GPU need (chosen; see run/attention/kernels.py).
MASK_ALIGNMENT = 8
"""Numbers at whose multiples the rows of a mask begin, lest it be copied in every call."""
SEEN_KEYS = 64
"""Keys to whose multiples what decoding rows see is rounded up off the processor, so that shapes
come again, and kernels with them."""

# Masks and attention: by long_texts.py --masks, and sweep.py --only few-shot.
NUMBERS_OF_A_MASK = 2**23
"""Numbers of a mask above which no mask of all rows × all keys is made."""
NUMBERS_OF_MASKS = {"cpu": 2**26}
"""Numbers by device of the masks of batches that run in turn above which each lets its masks go
after its step, and makes them anew for the next one."""
NUMBERS_OF_MASKS_ELSEWHERE = 2**28
"""The same where the device has no value of its own."""
MASK_NUMBERS_AT_ONCE = 2**21
"""Numbers of the masks that are made, some rows at a time, where the whole one is not."""
KEYS_PER_TILE = 64
"""Keys of which it is said together whether rows see all, some or none of them."""
ROWS_PER_PIECE = 64
"""Rows that attend at once to the keys that any of them sees."""
UNSEEN_KEYS = 32
"""Unseen keys between two runs of keys that are not worth a cut."""
ATTENTION_CALL = 3e4
"""Nanoseconds that a call of attention costs beside its pairs."""
FEWEST_ROWS, MOST_ROWS = 64, 512
"""Rows that attend at once where masks are made for some rows at a time, the heads that share a key
counted together."""
FEW_ROWS = 8
"""Rows up to which attention by two plain products is faster than torch's own."""

# Logits: by sweep.py --only C.
LOGITS_AT_ONCE = {"cpu": 2**22}
"""Numbers by device of the logits that are made at once, so that they never fill the memory."""
LOGITS_AT_ONCE_ELSEWHERE = 2**28
"""The same where the device has no value of its own: heads read all their weights for each."""
NORMALISED_AT_ONCE = {"cpu": 2**20}
"""Of these, the numbers by device that are normalised at once: they stay in the caches."""
NORMALISED_AT_ONCE_ELSEWHERE = 2**26
"""The same where the device has no value of its own: 256 MiB in single precision."""
PLANS_COMPARED_AT_ONCE = 16
"""Plans whose final states wait to be compared with the full model's at once (chosen): its logits
are made once for all of them, so they cost each a sixteenth of its own."""

# Decoding: by sweep.py --only generation.
LEAST_TEXTS = 64
"""Texts that decode at once however little a call costs: each step reads all weights."""
THIN_SHARE = 0.75
"""The share of texts below which it pays to move those that go on closer together."""
TIMES_THE_TEXTS = 1.5
"""How many times as many texts at once plans with fewer attentions must leave room for, to have a
turn of their own (chosen, by reckoning.py)."""
TOKENS_AHEAD = 64
"""Tokens for which buffers have memory beyond those that were read when they were made."""

# Keys and values, and the memory of a process: by sweep.py --only generation, and growth.py.
TOKENS_TO_COME = 64
"""Tokens for which a buffer under a Hugging Face cache has memory at the least; or an eighth."""
LARGE_KEYS = 2**20
"""Bytes of keys whose memory is worth being given back at once when they move."""
LEAST_MAPPING = 2**16
"""Bytes that are worth memory pages of their own."""

# What opening a model reads: by opening.py. On a processor it ends within seconds.
CHECK_PRODUCTS = {"cpu": 3e10}
"""Tokens × parameters by device that the texts of the opening check may take."""
CHECK_PRODUCTS_ELSEWHERE = 3.6e12
"""The same where the device has no value of its own."""
CHECK_SCORES = 2**28
"""Attention scores that eager attention may make at once in the opening check (chosen: 1 GiB)."""

# Stacked layers: by plan_cost.py.
FEW_STACKED_ROWS = 64
"""Rows up to which one batched product is faster than products one after the other."""
