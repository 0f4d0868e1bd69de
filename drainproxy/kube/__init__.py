"""What the cluster tells us, and what we tell it."""
