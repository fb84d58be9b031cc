"""The engines that speak, one a file; `voice.py` is what they have in common."""
