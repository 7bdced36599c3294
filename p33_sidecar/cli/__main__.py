"""`python -m p33_sidecar.cli`: the same as `p33`."""

from . import main

main()
