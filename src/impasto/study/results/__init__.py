"""What a study comes to: `collecting` sums up the answers, `table` is what that makes.

`formats` writes the table down, `packing` makes one file of a folder, and `notices` are what a user
is told in sentences.
"""
