//! Where messages begin in a stream of bytes, whatever its pieces are. Pure.
