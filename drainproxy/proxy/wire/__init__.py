"""Wire: sockets, buffers and what lies below HTTP."""
