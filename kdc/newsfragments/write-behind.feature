A long file goes to the disk while it arrives, not all of it at the end; its receiver takes a fifth less CPU time.
