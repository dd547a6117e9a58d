"""The face: command line, runtimes, reports."""
