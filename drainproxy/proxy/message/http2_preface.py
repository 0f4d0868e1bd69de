"""What parser.py says of a client that speaks HTTP/2 from the first byte (RFC 9113 section 3.4)."""


class Http2Preface(Exception):
    """Carries what followed."""

    def __init__(self, rest: bytes) -> None:
        super().__init__("HTTP/2")
        self.rest = rest
