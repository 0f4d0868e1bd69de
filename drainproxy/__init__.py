"""drainproxy: an HTTP reverse proxy that makes a pod's end invisible to its clients."""

__version__ = "0.1.0"
