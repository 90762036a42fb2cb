Ten thousand idle channels take their receiver 30 MiB of memory.
