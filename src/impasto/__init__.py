"""impasto runs any pretrained transformer the way you write it down.

The public names live here; ``docs/`` and DESIGN explain them.
"""
