"""A kubelet and its neighbours: pods as real processes, from the manifests that a cluster would be given.

`kubelet.py` is the way in. What a pod's namespaces would give a process (its own address, its own files) is
given by `sandbox.py` instead: an address of 127.0.0.0/8, a directory, and paths rewritten to it.
"""
