//! How passwords are proved: SCRAM-SHA-256 (RFC 5802, RFC 7677), with channel binding, and md5. Pure.
