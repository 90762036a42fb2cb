A relay costs a quarter of the processor time it did for what it carries, some 0.3 s per GiB.
