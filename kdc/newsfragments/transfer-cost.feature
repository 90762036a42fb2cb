`kdcclient send` and `receive` take about a fifth less CPU time for a large file.
