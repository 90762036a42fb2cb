`make demo` shows a KDC, a receiver and a sender at work on this machine, and fails if anything is not as it should be.
