"""Work on shower files."""
