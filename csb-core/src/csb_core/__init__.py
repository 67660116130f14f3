"""CSecBridge's shared library: a request's life, nothing of HTTP, AWS or jails."""
