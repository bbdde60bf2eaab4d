"""`filecoin` commands, which `quorate-node` and `quorate` share: `places` tells which of them is running."""
