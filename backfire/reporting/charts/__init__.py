"""Charts, one kind a file, drawn as SVG."""
