`kdcclient send --links follow` sends what links inside a directory point to, and `--exclude PATTERN` and `--exclude-from FILE` leave out what a `.gitignore` would.
