"""Data sets: one source, one file; and how rows are dealt to the parties."""
