"""What hostile code tries, and what must hold afterwards."""
