//! An authority, a PostgreSQL that it vouches for, the Secrets of a gateway between it and its peers, and `psql`.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use cast::loopback::free_address;
use cast::postgres::psql;
use cast::process::{attempt, is_root, run};
use cast::wire::Address;
use cast::{Edition, Folder, Gateway, Manifest, Postgres, Proxy};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// Everybody proves a password by SCRAM, but `certified` a certificate, over TCP; the cast itself uses the Unix socket.
const RULES: &str = "local all all trust\n\
                     hostssl all certified all cert\n\
                     host all certified all reject\n\
                     host all all all scram-sha-256\n";
/// The password of `app`, who has one in the database.
pub(crate) const PASSWORD: &str = "korrekt-Pferd-Batterie";
/// The modes of a proxy.
pub(crate) const MODES: [&str; 3] = ["passthrough", "session", "transaction"];

/// Who vouches for certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as a Secret has them.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// What a gateway is put between.
pub(crate) struct Stage {
    pub(crate) authority: Authority,
    pub(crate) postgres: Postgres,
    /// `app`: name and password of the database's user; `ca`: the authority; `server`: the gateway's own certificate, for
    /// `127.0.0.1`.
    pub(crate) secrets: Folder,
    folder: Folder,
}

// === impl Authority ===

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a host, or for a user whose name it is.
    pub(crate) fn vouches_for(&self, name: &str) -> Identity {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

// === impl Stage ===

impl Stage {
    #[track_caller]
    pub(crate) fn set() -> Self {
        Self::set_with(Postgres::at)
    }

    /// The same with a PostgreSQL of one version.
    #[track_caller]
    pub(crate) fn set_on(edition: Edition) -> Self {
        Self::set_with(|address, settings| Postgres::of_at(edition, address, settings))
    }

    #[track_caller]
    fn set_with(start: impl FnOnce(SocketAddr, &[(&str, &str)]) -> Postgres) -> Self {
        let (authority, folder, secrets) = (Authority::new("ours"), Folder::new("tls"), Folder::new("secrets"));
        let address = free_address();
        let path = |name: &str| folder.join(name).display().to_string();
        let settings = [
            ("hba_file", path("hba")),
            ("ssl", "on".into()),
            ("ssl_cert_file", path("crt")),
            ("ssl_key_file", path("key")),
            ("ssl_ca_file", path("ca")),
        ];
        put_for_postgres(&folder.join("hba"), RULES);
        shown_by_postgres(&folder, &authority, &authority.vouches_for(&address.ip().to_string()));
        let postgres = start(address, &settings.each_ref().map(|(name, value)| (*name, value.as_str())));
        postgres.query(&format!("create role app login password '{PASSWORD}'; create role certified login"));
        let stage = Self { authority, postgres, secrets, folder };
        stage.put_login("app", "app", PASSWORD);
        stage.put("ca", "ca.crt", &stage.authority.pem());
        stage.put_identity("server", &stage.authority.vouches_for("127.0.0.1"));
        stage
    }

    /// Gives a Secret a key; all keys of one change at once, as the kubelet changes them, only where nobody looks.
    pub(crate) fn put(&self, secret: &str, key: &str, content: &str) {
        fs::create_dir_all(self.secrets.join(secret)).unwrap();
        fs::write(self.secrets.join(secret).join(key), content).unwrap();
    }

    pub(crate) fn put_login(&self, secret: &str, username: &str, password: &str) {
        self.put(secret, "username", username);
        self.put(secret, "password", password);
    }

    pub(crate) fn put_identity(&self, secret: &str, identity: &Identity) {
        self.put(secret, "tls.crt", &identity.certificate);
        self.put(secret, "tls.key", &identity.key);
    }

    /// Has the database show this certificate from now on.
    pub(crate) fn the_database_has(&self, identity: &Identity) {
        shown_by_postgres(&self.folder, &self.authority, identity);
        self.postgres.query("select pg_reload_conf()");
    }

    /// Has the database show a certificate of this authority from now on.
    pub(crate) fn the_database_shows(&self, authority: &Authority, host: &str) {
        shown_by_postgres(&self.folder, authority, &authority.vouches_for(host));
        self.postgres.query("select pg_reload_conf()");
    }

    /// The path of a file with the certificate of an authority.
    pub(crate) fn roots(&self, authority: &Authority) -> String {
        let path = self.folder.join("roots.crt");
        fs::write(&path, authority.pem()).unwrap();
        path.display().to_string()
    }

    /// A proxy to the database in one of the [`MODES`].
    pub(crate) fn proxy(&self, mode: &str) -> Proxy {
        to(&self.postgres.address(), mode)
    }

    #[track_caller]
    pub(crate) fn gateway(&self, manifest: impl Into<Manifest>) -> Gateway {
        Gateway::with(manifest).told(&["--secrets", &self.secrets.display().to_string()]).start()
    }

    /// What `psql` says that connects with these words to `address`, and asks `sql`.
    #[track_caller]
    pub(crate) fn ask(&self, address: &Address, words: &str, password: &str, sql: &str) -> (bool, String) {
        attempt(self.psql(address, words, password).args(["-c", sql]))
    }

    /// The same without a question.
    pub(crate) fn psql(&self, address: &Address, words: &str, password: &str) -> Command {
        let mut command = psql(address);
        command.args(["-d", &format!("dbname=postgres {words}")]).env("PGPASSWORD", password);
        // Nothing of whoever runs this is looked at.
        command.env("HOME", &*self.folder);
        command
    }
}

/// A proxy to a database in one of the [`MODES`].
pub(crate) fn to(address: &Address, mode: &str) -> Proxy {
    let proxy = Proxy::to(address).named(mode).set("protocol", "postgres");
    if mode == "passthrough" {
        return proxy;
    }
    proxy.set("client.auth.secretName", "app").set("client.auth.database", "postgres").set("pool.mode", mode)
}

fn shown_by_postgres(folder: &Path, authority: &Authority, identity: &Identity) {
    put_for_postgres(&folder.join("ca"), &authority.pem());
    put_for_postgres(&folder.join("crt"), &identity.certificate);
    put_for_postgres(&folder.join("key"), &identity.key);
}

/// A file that only PostgreSQL may read.
fn put_for_postgres(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    if is_root() {
        run(Command::new("chown").arg("postgres").arg(path));
    }
}
