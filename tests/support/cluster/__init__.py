"""An API server that speaks Kubernetes' protocol over real sockets, and misbehaves on request.

`server.py` is the way in. Written from the API concepts page
(https://kubernetes.io/docs/reference/using-api/api-concepts/) and the API reference.
"""
