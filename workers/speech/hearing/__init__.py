"""Hearing: recordings become text, with times and with how sure the network was."""
