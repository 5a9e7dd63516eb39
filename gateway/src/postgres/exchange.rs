//! What the database still owes to a peer, and what becomes of each message. Pure.
