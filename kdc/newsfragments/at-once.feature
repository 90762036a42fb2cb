Tunnels and transfers write to the network at once where it takes that: less CPU time for each GiB.
