"""What a block is called with: masks, positions, and tensors with an entry per row or sequence."""
