"""Measures the platform beside yardsticks on this machine: `python -m bench`, from the root."""
