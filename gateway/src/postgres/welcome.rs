//! Hears what a peer wants, and who it is.
