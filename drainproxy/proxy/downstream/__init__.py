"""Downstream: the sockets of clients, before and below any protocol."""
