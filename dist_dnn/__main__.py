"""``python -m dist_dnn``: the command line."""

import sys

from dist_dnn.front.cli import main

sys.exit(main())
