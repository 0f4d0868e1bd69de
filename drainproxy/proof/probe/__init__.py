"""Probe: hits a service at a steady rate while a command runs, and names every lost request."""

from drainproxy.proof.probe.main import add_arguments, run

__all__ = ["add_arguments", "run"]
