"""The requester's command line."""
