//! Logs a client in to the database.
