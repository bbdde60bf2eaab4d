"""The protocol as pure code: no clock, disk, network, web3 or wasmtime; time and randomness are arguments."""
