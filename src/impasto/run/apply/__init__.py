"""A plan inside a Hugging Face forward: the handle, the cache under a plan, what a call returns."""
