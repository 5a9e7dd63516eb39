//! Encryption towards peers and towards the database.
