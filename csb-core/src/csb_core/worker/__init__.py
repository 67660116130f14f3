"""One process that claims, executes and records requests."""
