"""What others reach on this machine: each figure is taken in its favour where there is a choice."""
