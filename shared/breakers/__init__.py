"""What is set aside for a while because it breaks what it touches: a model (its breaker), a device (its quarantine)."""
