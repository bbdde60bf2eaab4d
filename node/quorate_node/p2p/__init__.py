"""The network of nodes: discovery, announcements, and small requests over libp2p. Bulk data stays on HTTP.

`port` is what the node sees, `wire` the pure rules (schemas, records, limits), `supervisor` keeps the libp2p host
alive, `child` is that host: the only code that knows trio and libp2p, in a process of its own. `discovery` and
`membership` find others, `carrying` and `serving` bring messages and take them, `announcing` is gossip about work.
Everything that arrives by gossip is a hint; the chain is the truth.
"""
