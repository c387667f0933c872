"""From requests to batches: tokenisation, donors, the prefix tree, padding, the memory budget."""
