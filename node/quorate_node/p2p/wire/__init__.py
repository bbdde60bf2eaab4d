"""What nodes tell each other, and which of it is taken: pure, without clock, disk or network."""
