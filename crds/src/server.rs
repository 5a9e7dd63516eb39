//! `spec.proxies[].server`: how peers reach us.

use crate::Duration;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How peers reach us.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default = "Server::default")]
pub struct Server {
    /// `tcp`, `unix` or `udp`. `tcp` and `unix` go with either on the client's side, `udp` with `udp` only.
    /// Default: the client's network. Live.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Network")]
    pub network: Option<Network>,

    /// Where peers dial: a literal `IP:port` (port 0 is any free one), or the absolute path of a socket, at most 107
    /// bytes. Default: `127.0.0.1` and the port of the first client address; `127.0.0.2` for the next proxy on that
    /// port. Live.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 107))]
    pub address: Option<String>,

    /// The permissions of a `unix` socket, in octal; the default lets any user id of the pod connect. Live.
    #[schemars(length(min = 3, max = 4), regex(pattern = "^0?[0-7]{3}$"))]
    pub socket_mode: String,

    /// Peers at one time. Live.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_peers: u32,

    /// A session without a byte in either direction ends after this; `0s` is never.
    /// Default: `0s`, but `10s` for `udp`. Live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,

    /// The name of a database that is none: peers in the pod that ask for it get the gateway's console. `""` is no
    /// console. Default: `postern` where `client.auth` is present, else none. Live.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub console: Option<String>,

    /// How peers prove who they are.
    pub auth: ServerAuth,

    /// Encryption between peers and us.
    pub tls: ServerTls,
}

/// A kind of socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Network {
    /// A TCP connection.
    #[default]
    Tcp,
    /// A Unix stream socket.
    Unix,
    /// UDP datagrams.
    Udp,
}

/// How peers prove who they are.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default = "ServerAuth::default")]
#[x_kube(validation = Rule::new("!has(self.mode) || self.mode == 'trust' || has(self.secretName)")
    .message("mode scram needs secretName").field_path(".secretName"))]
pub struct ServerAuth {
    /// `trust` believes who can dial us, on loopback and Unix sockets only; `scram` asks for the password of the
    /// Secret. Where `client.auth` is present. Live.
    pub mode: ServerAuthMode,

    /// The Secret with `username` and `password`. Default: none; `scram` needs one. Restart-required.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub secret_name: Option<String>,
}

/// How peers prove who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ServerAuthMode {
    /// Who can dial us is believed.
    #[default]
    Trust,
    /// SCRAM-SHA-256.
    Scram,
}

/// Encryption between peers and us.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default = "ServerTls::default")]
#[x_kube(validation = Rule::new("!has(self.mode) || self.mode == 'disable' || has(self.secretName)")
    .message("mode allow and mode require need secretName").field_path(".secretName"))]
pub struct ServerTls {
    /// `disable` offers none, `allow` offers it, `require` refuses peers without it. Live.
    pub mode: ServerTlsMode,

    /// The Secret with `tls.crt` and `tls.key`. Default: none; `allow` and `require` need one. Restart-required.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub secret_name: Option<String>,
}

/// Whether peers may, or must, encrypt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ServerTlsMode {
    /// Not offered.
    #[default]
    Disable,
    /// Offered.
    Allow,
    /// Insisted on.
    Require,
}

// === impl Server ===

impl Default for Server {
    fn default() -> Self {
        Self {
            network: None,
            address: None,
            socket_mode: "0666".into(),
            max_peers: 1000,
            idle_timeout: None,
            console: None,
            auth: ServerAuth::default(),
            tls: ServerTls::default(),
        }
    }
}

// === impl Network ===

impl fmt::Display for Network {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Network::Tcp => "tcp",
            Network::Unix => "unix",
            Network::Udp => "udp",
        })
    }
}
