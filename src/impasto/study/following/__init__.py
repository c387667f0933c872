"""Following along: how far a run is (`standing`), shown in a terminal, to trackers, to others.

`progress` shows it where the run was started, `status` anywhere else, `tracking` tells trackers.
"""
