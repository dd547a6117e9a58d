"""What an agent does with its data: one behaviour, one file."""
