`kdcclient doctor` says by which ways others come to our receiver, directly or through the relay, and why: it has the relay try.
