"""Injector: puts the sidecar into pods, whoever asks. One patch, three ways in."""
