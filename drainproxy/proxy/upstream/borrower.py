"""What is lent a connection to the application: an exchange, a tunnel, an HTTP/2 connection."""

from typing import Protocol


class Borrower(Protocol):
    """Told of everything that comes on the connection (connection.py), on the loop's thread."""

    def upstream_data(self, data: bytes) -> None:
        """Bytes have come."""

    def upstream_eof(self) -> bool | None:
        """The application has stopped to send. Return whether there is more to say to it; None: this is the
        end of the connection, which `upstream_lost` tells as any other."""

    def upstream_lost(self, *, reset: bool) -> None:
        """The connection has ended, and is the borrower's no more."""

    def upstream_writable(self, *, writable: bool) -> None:
        """The application cannot take more, or can again."""
