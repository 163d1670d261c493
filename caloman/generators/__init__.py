"""Trained generators: those that come with the package, and those that others share."""
