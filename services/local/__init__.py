"""The whole platform on one machine: real Postgres and Redis from Python wheels, under a small supervisor."""
