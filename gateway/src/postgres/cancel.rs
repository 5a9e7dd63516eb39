//! Which query a CancelRequest ends: the keys that peers have.
