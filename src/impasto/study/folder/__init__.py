"""The output folder: its files (`files`), its one writer (`lock`) and its log (`journal`)."""
