"""Content by CID: the BlobStore port, the embedded store, UnixFS and CAR; every byte is checked against its CID."""
