"""The workers as they report themselves, and the models that they can serve."""
