"""The admin room's settings. The string under each field is the manual (docs/configuration.md)."""

from dataclasses import dataclass

from drainproxy.addresses import ListenAddress
from drainproxy.kinds import Address, Duration, Endpoint, File, SocketFile


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSettings:
    """Durations in seconds."""

    admin: Address = ListenAddress(None, 29900)  # noqa: RUF009 - frozen
    """Address of health checks, metrics, status and /drain/wait."""

    control_socket: SocketFile = "@drainproxy"
    """Unix socket for `drain` and `undrain`: the path of a file, or `@` and a name for an abstract one, which
    needs no directory, and on which only processes of the same user in the same container are heard."""

    final_scrape_wait: Duration = 15.0
    """After a drain that lost, cut or refused something, wait for one more scrape from each Prometheus whose
    next is due within this long; after any other, within a twentieth of it. The application serves meanwhile,
    and is told to stop afterwards."""

    docs_url: Endpoint | None = None
    """Where docs/ of this version is to be read: the status page links to its files there. Without it, it
    names them."""

    termination_log: File = "/dev/termination-log"
    """Where the drain report goes for `kubectl describe pod`, if the file exists."""
