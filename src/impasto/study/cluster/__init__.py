"""A study on a Ray cluster: workers that hold a replica of the model each, and answer units.

`wanted` says on which cluster, and what has room there; `schedule` who gets what and what is too
late, as plain decisions; `crew` starts, watches and replaces workers by them; `worker` is what runs
in a worker's process, `wire` what is sent there and back, `memory` whether the model fits. Only
`pool` and `actor` know Ray; `hiring` puts them together.
"""
