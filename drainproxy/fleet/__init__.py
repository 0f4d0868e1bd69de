"""What became of pods that are gone, and which settings would have been enough for them?"""
