"""What there is to do: units of work, putting them to a model, and judging what it says.

`units` divides, `asking` asks, `scoring` judges; `identity` tells what an answer depends on, and
`precision` how precisely changes are known and how many questions would be enough.
"""
