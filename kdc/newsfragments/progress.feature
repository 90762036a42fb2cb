A receiver at a terminal shows progress too, progress names the file and fits the terminal's width, and a sender shows that it waits to be accepted and where it continues.
