//! Where a managed client leads: its database, and the startup parameters that no `SET` changes later.

use std::sync::Arc;

/// The key of a pool's clients. Cheap to clone; opaque and passthrough have the default one only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Route(Option<Arc<Inner>>);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Inner {
    database: Arc<str>,
    parameters: Vec<(Arc<str>, Arc<str>)>,
}

// === impl Route ===

impl Route {
    /// To `database`, with these startup parameters in any order.
    pub fn new(database: Arc<str>, mut parameters: Vec<(Arc<str>, Arc<str>)>) -> Route {
        parameters.sort_unstable();
        Route(Some(Arc::new(Inner { database, parameters })))
    }

    /// The database; `None`: the configured one.
    pub fn database(&self) -> Option<&Arc<str>> {
        self.0.as_ref().map(|inner| &inner.database)
    }

    /// The startup parameters, sorted.
    pub fn parameters(&self) -> &[(Arc<str>, Arc<str>)] {
        self.0.as_ref().map_or(&[], |inner| &inner.parameters)
    }
}
