"""Limits: who is let in, how many, and for how long."""
