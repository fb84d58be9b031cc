"""The one way out: every request to an address that somebody else chose goes through `Egress`."""
