"""Files that are whole or absent, trees no link leads out of, private files.  Blocking."""
