"""`python -m p33_sidecar.rehearsal.demo`."""

import sys

from p33_sidecar.rehearsal.demo.command import main

sys.exit(main(sys.argv[1:]))
