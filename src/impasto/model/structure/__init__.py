"""What a model consists of: blocks and their parts, stand-ins for them, stacked weights."""
