"""Demo: the end of a pod, four ways, on one clock and in numbers."""

from drainproxy.proof.demo.main import add_arguments, run

__all__ = ["add_arguments", "run"]
