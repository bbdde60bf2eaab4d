"""Running programs deterministically: the executor port and the WASM executor."""
