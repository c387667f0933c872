"""A spread of plans for six layers: every item, and the combinations that tend to go wrong."""

from impasto.plan import Plan

LINES = [
    "0-5",
    "5-0",
    "1-5",
    "0-2 4-5",
    "0 0 1 1 5",
    "2*4",
    "0 (1 2)*3 5",
    "3",
    "0-5.mlp",
    "0-5.attn",
    "0-2 3-5.mlp",
    "0-2 3-5.attn",
    "0.attn 1.mlp 2-5",
    "[0-5]",
    "0 [1-4] 5",
    "0 [1-4]*2 5",
    "0 [1 2 | 3 | 4.mlp] 5",
    "0 sum[1|2] 3-5",
    "0 sum[1.attn | 1.mlp] 2-5",
    "0 [[1|2] 3 | sum[3|4]] 5",
    "0 [[1 2|3]|4]",
    "0 noise(gaussian) 1 [[sum[2 3|4] | 5] 1.mlp | 3.mlp]",
    "freeze 0-5",
    "0 freeze 1-5",
    "0-2 freeze 3-5",
    "0-5 freeze",
    "0-2 freeze 2 2 1 5",
    "0-1 freeze [2-4]*2 5",
    "0-2 freeze 3-4.mlp 5.attn",
    "0-2 freeze sum[3|4] 5",
    "noise(shuffle) 0-5",
    "noise(gaussian) 0-5",
    "0-2 noise(shuffle) 3-5",
    "0-2 noise(gaussian, seed=3) 3-5",
    "0-2 noise(gaussian, keep=2) 3-5",
    "0-2 noise(shuffle, seed=7, keep=1) 3-5",
    "0-5 noise(shuffle)",
    "0-1 noise(gaussian) 2-3 noise(gaussian) 4-5",
    "0-1 noise(shuffle) 2-3 noise(gaussian, keep=1) 4-5",
    "0-1 noise(gaussian) 2-3 freeze 4-5",
    "0-1 noise(shuffle) freeze 2-5",
    "0-1 freeze 2-3 noise(gaussian) 4-5",
    "0-1 freeze 2-3 freeze 4-5",
    "0 noise(gaussian) [1-3]*2 freeze [4|5]",
    "0-1 noise(shuffle) 2.attn 3.mlp 4 5",
    "0-1 noise(gaussian) 2-5.mlp",
    "0-1 noise(gaussian) 3 3 2 freeze 2 4-5",
    "0-1 noise(shuffle) sum[2 3|4] 5",
    "0 1@0.5 2-5",
    "0-1 2-3.attn@0.5 4.mlp@-0.25 5@0",
    "0 (1-3)@0.5*2 4-5",
    "0 [1-3]@0.25 sum[4@0.5|5]@2",
    "[0|] 1 [2 3||4] 5",
    "0 [1-2|]*2 [[3|]|4] 5",
    "0-1 freeze 2@0.5 [3|] (4 5)@1.5",
    "0-1 noise(gaussian) 2-3.mlp@0.5 [4|5]@0.5",
]

# What is done to the prompt alone, for which it must be known where it ends.
PROMPTED = [
    "0-2 freeze(prompt) 3-5",
    "freeze(prompt) 0-5",
    "0 freeze(prompt) [1-3]*2 4.mlp 5.attn",
    "0-1 freeze(prompt) (2-4)@0.5 [3|] 5",
    "0-2 freeze(prompt) 3 freeze 4-5",
    "0-2 freeze freeze(prompt) 3-5",
    "0-1 freeze(prompt) 2 noise(gaussian) 3-5",
    "0-1 noise(shuffle) 2 freeze(prompt) sum[3 4|5] 5",
    "0-2 noise(gaussian, seed=3, prompt) 3-5",
    "0 noise(shuffle, keep=1, prompt) 1-2 freeze(prompt) 3-5",
    "0-1 noise(gaussian, prompt) 2 noise(gaussian) 3-4 freeze 5",
    "0-5 freeze(prompt)",
    "0-1 freeze(prompt) noise(shuffle, prompt) 2-5",
    "5-2 freeze(prompt) 1.mlp 0.mlp",
]

INJECTING_PROMPTED = [
    "0-1 inject(a) 2 freeze(prompt) 3-5",
    "0-1 freeze(prompt) 2 inject(a) 3-5",
    "0 noise(gaussian, prompt) 1 inject(a) 2-3 noise(shuffle, prompt) 4-5",
    "0 freeze(prompt) 1 inject(a) 2 freeze inject(b) 3-5",
]

INJECTING = [
    "inject(a) 0-5",
    "0-2 inject(a) 3-5",
    "0-5 inject(a)",
    "0-1 inject(a) freeze 2-5",
    "0-1 freeze inject(a) 2-5",
    "0-1 noise(gaussian) 2 inject(a) 3-5",
    "0 inject(a) 1-2 noise(shuffle) 3-5",
    "0 inject(a) 1-2 inject(b) 3-5",
    "0 inject(a) [1-3]*2 freeze inject(b) 4-5",
]

REACHING = [
    "0-5{first=1, last=2}",
    "0-1 2-4.attn{last=3} 5",
    "0-2{first=2} 3-5{last=1}",
    "0-1 freeze 2-5{first=1, last=2}",
    "0{last=2} freeze 1{first=1} 2-5{last=1}",
    "0-1 noise(gaussian) 2-5{last=2}",
    "0-1{first=1, last=1} noise(shuffle) 2 3{last=2} freeze 4{first=2} 5",
    "0 [1{last=2} 2 | 3{first=1}]*2 4-5",
    "0 (1-2{first=1, last=2} 3)@0.5*2 4-5",
    "0-1 freeze [2{first=1} 3|] sum[3{last=3}|4{last=2}@0.5] 5",
    "0-1 2{last=1} 2{last=3} 2 3-5",
    "0-5{first=3, last=9223372036854775807}",
]

REACHING_INJECTING = [
    "0-1{last=2} inject(a) 2-5{first=1, last=2}",
    "0-1 freeze inject(a) 2-5{first=1, last=1}",
]

PLANS = [Plan.parse(line, layers=6) for line in LINES]
REACHING_PLANS = [Plan.parse(line, layers=6) for line in REACHING]
REACHING_INJECTING_PLANS = [Plan.parse(line, layers=6) for line in REACHING_INJECTING]
PROMPTED_PLANS = [Plan.parse(line, layers=6) for line in PROMPTED]
INJECTING_PROMPTED_PLANS = [Plan.parse(line, layers=6) for line in INJECTING_PROMPTED]
INJECTING_PLANS = [Plan.parse(line, layers=6) for line in INJECTING]

# What encoders run: all but what is about earlier tokens.
ENCODER_PLANS = [plan for plan in PLANS if not plan.has_history]
ENCODER_INJECTING_PLANS = [plan for plan in INJECTING_PLANS if not plan.has_history]

CORE = ("llama", "gpt2", "gpt_neox", "bloom", "gemma3")


def spread(name: str, names: list[str], core: int = 1, others: int = 5) -> list[Plan]:
    """Return the plans that a family meets in the quick tests, where not all families meet all.

    The core families meet every ``core``-th plan, the others every ``others``-th, beginning at
    different ones, so that every plan is met by several families.
    """
    every = core if name in CORE else others
    return PLANS[names.index(name) % every :: every]
