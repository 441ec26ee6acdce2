"""`python -m pipeline` is `osft-pipeline`."""

from pipeline.cli.main import main

main()
