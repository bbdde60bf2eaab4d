"""The data plane of a node: trustless gateway, node messages and health over one HTTP app."""
