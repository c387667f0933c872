"""What a model consists of: blocks and their parts, stand-ins for them, weights that are stacked."""
