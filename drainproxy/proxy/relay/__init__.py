"""Relays: two ends, and bytes both ways."""
