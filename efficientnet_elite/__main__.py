"""``python -m efficientnet_elite``: the ``elite`` command."""

import sys
from pathlib import Path

# Python puts the current folder first, which may be anybody's: what lies there is not imported.
if sys.path and sys.path[0] in ("", str(Path.cwd())):
    del sys.path[0]

from efficientnet_elite.cli import main

if __name__ == "__main__":
    sys.exit(main())
