"""Which contract the API keeps, and which release this is."""

from importlib.metadata import version

API_VERSION = "1.0.0"
PLATFORM_VERSION = version("atelier-workshop")
