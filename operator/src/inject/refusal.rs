//! Why a pod cannot have its sidecar.

use std::fmt;

/// Why a pod cannot have its sidecar: a word for metrics and events, and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The word.
    pub reason: Reason,
    /// What is wrong, where, and what to do.
    pub sentence: String,
}

/// The words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// An annotation of ours says something that it cannot say.
    BadAnnotation,
    /// The namespace has no configuration.
    NoConfig,
    /// The namespace has several, and none is the default.
    ManyConfigs,
    /// The namespace has no configuration of that name.
    ConfigNotFound,
    /// The configuration is on its way out.
    ConfigDeleting,
    /// The API server did not say whether there is such a configuration, or what it says cannot be read.
    ConfigUnreadable,
    /// The configuration cannot be served, in this pod or in any.
    ConfigInvalid,
    /// The configuration's `ConfigMap` is not there and could not be written.
    NotDelivered,
    /// The pod has the network of its node.
    HostNetwork,
    /// The pod is for Windows.
    Windows,
    /// Something in the pod has a name that we need.
    NameTaken,
    /// A container declares a port that we need.
    PortClash,
    /// The pod maps the database's name elsewhere.
    AliasClash,
    /// The pod is none.
    BadPod,
}

// === impl Refusal ===

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.sentence)
    }
}

// === impl Reason ===

impl Reason {
    /// The refusal for this reason, in these words.
    #[must_use]
    pub fn because(self, sentence: impl Into<String>) -> Refusal {
        Refusal { reason: self, sentence: sentence.into() }
    }

    /// Whether it is because something is not there, so that it is worth to look again.
    pub const fn is_of_absence(self) -> bool {
        matches!(self, Reason::NoConfig | Reason::ManyConfigs | Reason::ConfigNotFound | Reason::ConfigDeleting)
    }

    /// The word, as events and metrics have it.
    pub const fn word(self) -> &'static str {
        match self {
            Reason::BadAnnotation => "BadAnnotation",
            Reason::NoConfig => "NoConfig",
            Reason::ManyConfigs => "ManyConfigs",
            Reason::ConfigNotFound => "ConfigNotFound",
            Reason::ConfigDeleting => "ConfigDeleting",
            Reason::ConfigUnreadable => "ConfigUnreadable",
            Reason::ConfigInvalid => "ConfigInvalid",
            Reason::NotDelivered => "NotDelivered",
            Reason::HostNetwork => "HostNetwork",
            Reason::Windows => "Windows",
            Reason::NameTaken => "NameTaken",
            Reason::PortClash => "PortClash",
            Reason::AliasClash => "AliasClash",
            Reason::BadPod => "BadPod",
        }
    }
}
