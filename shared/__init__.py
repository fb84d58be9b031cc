"""Vocabulary that services and workers share; imports neither."""
