"""The results database: one SQLite file in a study's folder, with all that was ever found there.

`opening` makes and opens it, `register` writes down what a study needs, `saving` what it found,
`reading` and `answers` give it back, `checking` says what a file may hold, `complaints` what SQLite
complains of. `costs` does both for what plans cost, `precisions` for how precisely their
changes are known, `asked` for which study files were run and which models they have. `migrations`
are its form; docs/results.md describes it.
"""
