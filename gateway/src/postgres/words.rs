//! What a statement may leave behind in its session, told by its words. Pure.
