"""Upstream: connections to the application."""
