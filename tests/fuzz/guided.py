"""One door under atheris: a process of its own, started by `__main__` with libFuzzer's arguments."""

from __future__ import annotations

import sys

import atheris

del sys.path[0]  # as in __main__: what is installed

with atheris.instrument_imports(include=["drainproxy.proxy", "tests.conformance", "tests.fuzz"]):
    from tests.fuzz.doors import DOORS

MAX_CUTS = 4


def main() -> None:
    """Never returns: libFuzzer exits."""
    door = DOORS[sys.argv.pop(1)]

    def one(data: bytes) -> None:
        given = atheris.FuzzedDataProvider(data)
        # Numbers are taken from the end of the data: a seed's bytes stay at its beginning.
        cuts = [given.ConsumeIntInRange(0, 400) for _ in range(given.ConsumeIntInRange(0, MAX_CUTS))]
        door.check(given.ConsumeBytes(given.remaining_bytes()), cuts)

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
