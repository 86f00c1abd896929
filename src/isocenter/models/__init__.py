"""Networks, their inputs, and weights with their passport."""
