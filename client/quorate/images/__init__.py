"""Container images as content: read with hard bounds, written alike on every machine."""
