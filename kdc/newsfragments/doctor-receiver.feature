`kdcclient doctor` finds a receiver that only its own machine can reach.
