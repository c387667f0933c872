"""What a block is called with: masks, positions, and what counts rows or sequences."""
