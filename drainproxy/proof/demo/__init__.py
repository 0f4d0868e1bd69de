"""Demo: the end of a pod, four ways, on one clock and in numbers."""
