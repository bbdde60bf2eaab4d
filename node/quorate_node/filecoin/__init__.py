"""What only a node needs of Filecoin: fast hashing of pieces."""
