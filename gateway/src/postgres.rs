//! The PostgreSQL protocol, version 3 (PostgreSQL's documentation, chapter "Frontend/Backend Protocol").
//!
//! Pure pieces: [`wire`] writes and reads messages, [`startup`] the packets that come before a login, [`scram`] proves
//! passwords, [`frames`] finds where messages begin in any stream of bytes, [`passage`] says what of it goes on, [`effects`]
//! tells what a statement may leave behind, reading it by its `words`, [`statements`] remembers prepared ones, and
//! [`exchange`] knows what the database still owes. Then what talks: [`login`] to the database, [`welcome`] to a peer,
//! [`admission`] to one that has to prove a password, and [`cancel`] to whoever runs the query that shall end.

pub mod wire;
pub mod startup;
pub mod scram;
pub mod frames;
pub mod passage;
mod encoding;
mod words;
pub mod effects;
pub mod statements;
pub mod exchange;
pub mod login;
pub mod welcome;
pub mod admission;
pub mod cancel;
