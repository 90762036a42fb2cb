A directory of very many small files costs both ends little more than half as much CPU time.
