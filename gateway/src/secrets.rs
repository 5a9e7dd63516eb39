//! The Secrets that the configuration names: a folder for each, read again whenever one is needed.
