"""The published encodings, and the scripts that made them."""
