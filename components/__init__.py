"""The steps of the pipeline: each folder holds one, `core.py` as plain Python and `component.py` as its KFP face."""
