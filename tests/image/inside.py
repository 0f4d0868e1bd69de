"""What a test runs inside a container, with the image's own Python: loads what the image should have.

It asks a cluster that is not there, with a kubeconfig that lies in memory, since nothing can be written.
"""

import json
import os
import subprocess
import sys

import drainproxy.injector.server
import drainproxy.proof.demo.main
from drainproxy.kube import access

KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "shop",
    "contexts": [{"name": "shop", "context": {"cluster": "shop", "user": "shop"}}],
    "clusters": [{"name": "shop", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "shop", "user": {"token": "none"}}],
}

for name in ("client.configuration", "config.kube_config"):
    access._load(name)
memory = os.memfd_create("kubeconfig")
os.write(memory, json.dumps(KUBECONFIG).encode())
done = subprocess.run(
    ["drainproxy", "check", "deploy/shop", "--kubeconfig", f"/proc/self/fd/{memory}"],
    pass_fds=[memory], capture_output=True, text=True, check=False,
)  # fmt: skip
print(done.stdout, done.stderr)
sys.exit(drainproxy.injector.server is None or drainproxy.proof.demo.main is None)
