"""The libp2p host in a process of its own: the only code that knows trio and libp2p. Started by `supervisor`."""
