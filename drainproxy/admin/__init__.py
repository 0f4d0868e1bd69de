"""Admin: what operators, the kubelet and Prometheus ask."""
