"""A local chain with contracts and node processes: start, watch, stop."""
