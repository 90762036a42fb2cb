A receiver keeps at most 128 channels of one sender at a time, and counts connections as strangers' until it has answered them, as docs/protocol.md section 10 says.
