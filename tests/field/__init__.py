"""Real servers, bare and behind drainproxy: what their callers feel. `make field`, python -m tests.field."""
