A long file that was cut goes on at once: sender and receiver read what is there already while the rest is sent.
