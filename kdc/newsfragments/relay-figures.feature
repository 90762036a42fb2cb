Of its relay the KDC tells its watchers how many connections are joined, apart from those that wait, how many were since the start, and how often each limit was reached.
