"""The door: `python -m drainproxy` and the `drainproxy` command.

It decides how much to import: next to nothing for a pod's hooks, the signal handlers before
anything else for `run` and `webhook`, the command line for everything.
"""

from __future__ import annotations

import sys

from drainproxy import hook

EXIT_INTERRUPTED = 130


def main() -> int:
    """Run the command line; return the exit code."""
    try:
        return _run()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _run() -> int:
    arguments = sys.argv[1:]
    verb = arguments[0] if arguments else ""
    if verb in hook.VERBS and (order := hook.understand(arguments)) is not None:
        return hook.run(*order)
    if verb in {"run", "webhook"}:
        from drainproxy.lifecycle import signals  # noqa: PLC0415 - and nothing before it

        signals.catch_early()
    from drainproxy import flavour  # noqa: PLC0415 - the same

    flavour.choose()
    from drainproxy.cli import main as cli  # noqa: PLC0415 - costs what a hook cannot pay

    return cli.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
