"""One launcher per experiment: `python -m experiments.NAME --flag=value`."""
