A receiver that nobody can connect to is reached through the realm's relay, which sees no more than the network does (docs/protocol.md section 6.6).
