//! Prepared statements: which the peers of a proxy have, and which a client has. Pure.
