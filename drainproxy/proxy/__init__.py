"""Proxy: the data plane. Bytes from clients to the application and back."""
