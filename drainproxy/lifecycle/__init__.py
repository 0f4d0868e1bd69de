"""Lifecycle: what phase are we in, what does it mean, and when may we leave?"""
