"""What stores of sealed lines are made of: lines, keys, a table in memory, whole files."""
