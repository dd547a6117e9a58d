"""What a run keeps on disk, written so that a killed one can go on."""
