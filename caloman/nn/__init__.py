"""Networks without physics."""
