"""The platform on one machine: embedded servers, their supervisor, the demonstration."""
