"""Probe: hits a service at a steady rate while a command runs, and names every lost request."""
