`kdcclient send --skip`, or a yes to the question at a terminal, leaves out what cannot be sent and sends the rest; the exit status is 9 then.
