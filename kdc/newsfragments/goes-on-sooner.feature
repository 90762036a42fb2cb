A long file that was cut goes on sooner: sender and receiver read what is there at the same time, and each of them once.
