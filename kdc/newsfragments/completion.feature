Completion in the shell offers principals that `kdcclient who` has told of, directories where one is wanted, and names with blanks as one word.
