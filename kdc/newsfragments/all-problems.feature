All names and files that cannot be sent are told at once, each with the rule that it breaks, before anything is sent.
