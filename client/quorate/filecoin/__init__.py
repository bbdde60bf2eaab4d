"""Filecoin: addresses, messages, piece CIDs, a wallet, a spending limit, and the reader's side of paid retrieval.

Pure: `addresses`, `signatures`, `messages`, `cborcodec`, `piececid`, `piecetree`, `spending`, `budget`, `terms`,
`wirejson`, `x402`. Everything else reads or writes.
"""
