"""`python -m client`: the same as `atelier`."""

import sys

from client.cli import main

sys.exit(main())
