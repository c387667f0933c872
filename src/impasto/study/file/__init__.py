"""The study file: a YAML text, read into a value that is checked as far as it can be.

`document` reads YAML with its lines, `schema` knows the file's form, `entries` its tasks and plans,
`study` the whole.
"""
