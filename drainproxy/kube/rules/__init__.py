"""By which rules a cluster chooses pods, and lets packets through."""
