`kdcclient send --limit 5M` and `receive --limit 5M` go no faster than so many bytes a second.
