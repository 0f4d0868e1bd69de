"""Slices: what EndpointSlices say of this pod and of those beside it."""
