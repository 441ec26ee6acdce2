"""`python -m pipeline` is `osft-pipeline`."""

from pipeline.cli import main

main()
