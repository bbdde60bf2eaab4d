"""The only way to the chain: a port, its JSON-RPC adapter and the generated ABI."""
