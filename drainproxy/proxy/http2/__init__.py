"""HTTP/2, passed through frame by frame and drained between the frames.

Nothing is decoded: header compression, flow control and trailers stay end to end, on one upstream connection
a client connection. Only frame headers are read, and frames that touch neither are added (RFC 9113).
"""
