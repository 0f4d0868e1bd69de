"""The door: `python -m drainproxy` and the `drainproxy` command.

It decides how much to import: next to nothing for a pod's hooks, the signal handlers before
anything else for `run` and `webhook`, the command line for everything. And it has `run` begin once more
where the interpreter's own allocator would keep what a crowd of clients has left
(docs/decisions/0028-allocator.md).
"""

import os
import sys

from drainproxy import hook

EXIT_INTERRUPTED = 130

ALLOCATOR = "PYTHONMALLOC"
"""In the environment: which allocator the interpreter uses (Python: PYTHONMALLOC). Only before it starts."""


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

        if verb == "run" and _can_choose_allocator():
            signals.hold()
            _begin_again()
        signals.catch_early()
    from drainproxy import flavour  # noqa: PLC0415 - the same

    flavour.choose()
    from drainproxy.cli import main as cli  # noqa: PLC0415 - costs what a hook cannot pay

    return cli.main(arguments)


def _can_choose_allocator() -> bool:
    """Tell whether another one than the interpreter's own can be had, and nobody has chosen.

    glibc's only: what is free it gives back page by page, others are slower and do not. An interpreter
    without its lock (PEP 703) has no choice, and one that ignores its environment, or looks for defects, has
    made it.
    """
    flags = sys.flags
    if ALLOCATOR in os.environ or flags.ignore_environment or flags.dev_mode or "t" in sys.abiflags:
        return False
    try:
        return bool(sys.executable and os.confstr("CS_GNU_LIBC_VERSION"))
    except (ValueError, OSError):
        return False


def _begin_again() -> None:
    """Start the same program with the C library's allocator, in the same process. Where it cannot, go on."""
    try:
        os.execve(  # noqa: S606 - itself, with the words that it was started with
            sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, ALLOCATOR: "malloc"}
        )
    except OSError:
        # No contextlib: it is fifteen modules, and the hooks load this file.
        return


if __name__ == "__main__":
    sys.exit(main())
