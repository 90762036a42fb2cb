`kdcclient send` and `receive` take about a third less CPU time for a large file.
