"""Proof: load that counts every loss, to show a rollout before and after drainproxy."""
