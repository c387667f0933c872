"""Attention chosen for one call: few rows, the rows of a prefix tree, texts too long for a mask."""
