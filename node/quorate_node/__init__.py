"""The operator's daemon: executes bundles that it is drawn for, commits, reveals and serves results."""
