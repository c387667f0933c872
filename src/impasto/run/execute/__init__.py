"""Running programs: the executor, the plan tree, rows and their masks, branches."""
