"""What drainproxy costs, beside proxies everyone knows. `python -m bench`; README.md says how it measures."""
