"""HTTP/1: one client connection, one request and its answer at a time."""
