//! What reads bytes from outside, and what must hold whatever the bytes are: one function for each of libFuzzer's targets.
//!
//! In the order of a connection's journey: the [`configuration`] and the [`values`] in it; what a peer says first ([`startup`]) and
//! how it proves a password ([`scram`], [`admission`]); what the database says to a [`login`], and the [`certificate`] that it
//! shows; then what both say to each other: [`frames`], [`messages`], [`sql`], and the [`exchange`] of all that, which must
//! hide from its peers that they are [`strangers`] who share clients. Last the operator's: a
//! [`review`], and the [`pod`] in it that is to be injected.
//!
//! The ordinary test `corpus` runs each of them over the inputs that are kept, in `corpus`.

pub mod input;
pub mod stream;

pub mod configuration;
pub mod values;
pub mod startup;
pub mod scram;
pub mod admission;
pub mod login;
pub mod certificate;
pub mod frames;
pub mod messages;
pub mod sql;
pub mod exchange;
pub mod strangers;
pub mod review;
pub mod pod;

// The meeting of strangers is written inside the gateway, where its modules have these names.
#[allow(unused_imports, reason = "the ordinary test has a root of its own")]
use gateway::{config, postgres};

/// Something that must hold for any bytes.
pub type Target = fn(&[u8]);

/// All of them, by the names of their programs.
pub const TARGETS: [(&str, Target); 15] = [
    ("configuration", configuration::run),
    ("values", values::run),
    ("startup", startup::run),
    ("scram", scram::run),
    ("admission", admission::run),
    ("login", login::run),
    ("certificate", certificate::run),
    ("frames", frames::run),
    ("messages", messages::run),
    ("sql", sql::run),
    ("repeated", sql::repeated),
    ("exchange", exchange::run),
    ("strangers", strangers::run),
    ("review", review::run),
    ("pod", pod::run),
];
