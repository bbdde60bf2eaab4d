"""The shipped retrieval provider: real files, served free or at a price, paid by x402 and by vouchers.

catalog   what is for sale: datasets, their pieces and prices       pieces    bytes of a piece, by reference
adding    files, folders and CARs into the catalogue                till      every voucher and payment, on disk
offers    what a 402 says                                           desk      takes payments, before bytes are sent
railbook  what the chain says about rails                           redeeming vouchers become money
app       the routes                                                service   one process of it all
"""
