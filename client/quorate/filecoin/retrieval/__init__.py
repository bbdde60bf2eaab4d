"""The reader's side of retrieval: discover, quote, reserve, pay, stream and verify, settle.

Pure: `wanted`, `discovery`, `quoting`. The rest reads or writes: `transport` (one provider's answers), `book` (who is
asked, and who lied), `partfile` (what is here of a piece), `paying` (purse and signatures), `streaming` (chunks of a
piece), `reader` (all of it).
"""
