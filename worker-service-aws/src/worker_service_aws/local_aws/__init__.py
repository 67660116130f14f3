"""A local AWS for development and tests: moto over HTTP, behind a gate that really refuses.

Moto assumes roles that do not exist, takes any ExternalId and ignores session policies. The gate
in front of it finds out who calls, checks trust and permission, and can be told to misbehave.
"""
