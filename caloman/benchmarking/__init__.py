"""How long a generator takes, beside the published ones."""
