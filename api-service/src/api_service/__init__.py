"""The public API: accepts requests, answers for their state, executes nothing."""
