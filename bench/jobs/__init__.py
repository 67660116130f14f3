"""What the yardsticks run, with the libraries of the bench's own environment: nothing of ours."""
