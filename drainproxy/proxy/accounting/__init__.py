"""Accounting: what becomes of each piece of work is counted, logged and traced."""
