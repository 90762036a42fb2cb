What arrives through tunnels and in transfers is copied once less: less CPU time for each GiB.
