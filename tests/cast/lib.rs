//! The cast: a database, a peer, a gateway.
