"""The actions this worker can execute."""
