"""``python -m efficientnet_elite``: the ``elite`` command."""

import sys

from efficientnet_elite.cli import main

if __name__ == "__main__":
    sys.exit(main())
