"""A Hugging Face model opened up: its blocks, their parts, and what each block is called with."""
