"""Backfire from Python: what `import backfire` offers; `docs/python.md` is its page."""
