"""`drainproxy redirect PORT:PORT ...`: what comes to a port of this pod is led to the sidecar.

The command of the init container that capture by redirect adds (docs/injection.md). It writes nftables rules
and ends: in one transaction, so that there is never half of them, and anew each time, so that it does not
matter what was there. It needs root and NET_ADMIN, for its own network namespace alone. Called by main.py.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from drainproxy.errors import ConfigError
from drainproxy.values import port

EXIT_FAILED = 1
NFT_S = 30.0
"""It asks the kernel a few things and writes a few rules."""
IPV6 = Path("/proc/net/if_inet6")
"""Not there where the kernel was told to have no IPv6, and then it takes no rules for it either."""


def run(pairs: list[str]) -> int:
    """Write the rules; return the process's exit code. Raises ConfigError."""
    ports = _read(pairs)
    families = ["ip", *["ip6"] * IPV6.exists()]
    try:
        done = subprocess.run(
            ["nft", "-f", "-"],  # noqa: S607 - wherever the image has it
            input="".join(ruleset(family, ports) for family in families),
            text=True,
            capture_output=True,
            check=False,
            timeout=NFT_S,
        )
    except FileNotFoundError:
        return _fail("nft is not here: this needs the image's target with nftables")
    except subprocess.TimeoutExpired:
        return _fail(f"nft has not ended within {NFT_S:g}s")
    if done.returncode:
        first = next(iter(done.stderr.splitlines()), f"exit code {done.returncode}")
        return _fail(f"nft: {first}: it needs root, NET_ADMIN and a kernel with nf_tables")
    for captured, sidecar in ports.items():
        print(f"drainproxy: TCP port {captured} leads to {sidecar} ({' and '.join(families)})")
    return 0


def ruleset(family: str, ports: Mapping[int, int]) -> str:
    """Return the rules of one family, as one file for nft(8).

    A table of our own is replaced whole. Loopback is left alone: the sidecar reaches the application there,
    and so do the pod's other containers. What comes from elsewhere and was not led away, as what the kernel
    does not track, is not let in.
    """
    redirects = "".join(
        f"    tcp dport {captured} redirect to :{sidecar}\n" for captured, sidecar in ports.items()
    )
    captured = ", ".join(map(str, ports))
    return f"""\
add table {family} drainproxy
delete table {family} drainproxy
table {family} drainproxy {{
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    iifname "lo" return
{redirects}  }}
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname != "lo" tcp dport {{ {captured} }} reject with tcp reset
  }}
}}
"""


def _read(pairs: list[str]) -> dict[int, int]:
    """Return where each captured port leads. Raises ConfigError with all that is wrong."""
    ports: dict[int, int] = {}
    problems = list(_gather(pairs, ports))
    if meeting := ports.keys() & {*ports.values()}:
        problems.append(f"redirect: port {min(meeting)} is captured and the sidecar's, too")
    if problems:
        raise ConfigError(problems)
    return ports


def _gather(pairs: list[str], ports: dict[int, int]) -> Iterator[str]:
    for pair in pairs:
        words = pair.split(":")
        try:
            captured, sidecar = map(port, words)
        except ValueError:
            yield f'redirect: "{pair}" is not PORT:PORT, the captured one and the sidecar\'s'
            continue
        if captured in ports or sidecar in ports.values():
            yield f'redirect: "{pair}" names a port a second time'
        ports[captured] = sidecar


def _fail(why: str) -> int:
    print(f"drainproxy: no packet is led anywhere: {why}", file=sys.stderr)
    return EXIT_FAILED
