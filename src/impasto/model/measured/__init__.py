"""What an opened model shows when it is asked: the sizes of its parts, and modules nobody reads."""
