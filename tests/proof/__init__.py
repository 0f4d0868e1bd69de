"""Tests of the proof: the counting client, the probe and the demo."""
