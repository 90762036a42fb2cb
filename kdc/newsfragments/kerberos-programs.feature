Heimdal's clients, curl with delegation, `ssh -K` and psql with `gssencmode=require` log in to the realm for tests, each tested; S4U2Self takes the checksum that Heimdal sends.
