//! A gateway before a PostgreSQL, and a browser that looks at its page.

use std::fs;

use cast::{Browser, Folder, Gateway, Manifest, Postgres, Proxy};

/// What is on stage.
pub(crate) struct Stage {
    pub(crate) browser: Browser,
    pub(crate) gateway: Gateway,
    pub(crate) postgres: Postgres,
    /// The Secrets, and whatever else a journey writes down.
    pub(crate) folder: Folder,
}

impl Stage {
    /// One proxy in transaction mode, as `more` makes it, and its page in the browser.
    #[track_caller]
    pub(crate) fn set(more: impl FnOnce(Proxy) -> Proxy) -> Self {
        Self::with(|postgres| {
            let managed = Proxy::to(&postgres.address()).named("orders").set("protocol", "postgres");
            let managed = managed.set("client.auth.secretName", "app").set("client.auth.database", "postgres");
            Manifest::of([more(managed.set("pool.mode", "transaction"))])
        })
    }

    /// The same with proxies of one's choice.
    #[track_caller]
    pub(crate) fn with(manifest: impl FnOnce(&Postgres) -> Manifest) -> Self {
        let postgres = Postgres::start();
        let secrets = Folder::new("secrets");
        fs::create_dir(secrets.join("app")).unwrap();
        fs::write(secrets.join("app/username"), "postgres").unwrap();
        fs::write(secrets.join("app/password"), "correct").unwrap();
        let gateway = Gateway::with(manifest(&postgres)).told(&["--secrets", &secrets.display().to_string()]).start();
        let browser = Browser::start();
        let stage = Self { browser, gateway, postgres, folder: secrets };
        stage.browser.look((1280, 900), "light");
        // What it did before there was a page is nobody's business.
        stage.browser.requests();
        stage.browser.open(&stage.url());
        stage.browser.expect("#contact", "Live");
        stage
    }

    /// The page's address.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.gateway.admin())
    }

    /// Looks that the page has asked nobody but the gateway, and that the browser forbade it nothing.
    #[track_caller]
    pub(crate) fn expect_clean(&self) {
        let ours = self.url();
        let requests = self.browser.requests();
        let others: Vec<_> =
            requests.iter().filter(|url| !url.starts_with(&ours) && !url.starts_with("data:")).collect();
        assert!(others.is_empty(), "it asks others: {others:?}");
        assert!(requests.iter().any(|url| url.ends_with("/state")), "nothing was heard of its requests: {requests:?}");
        assert_eq!(self.browser.console(), Vec::<String>::new());
    }

    /// Looks that all of the page is in a window of this width, and that every text stands out from its ground.
    #[track_caller]
    pub(crate) fn expect_readable(&self, width: u32) {
        for scheme in ["light", "dark"] {
            self.browser.look((width, 900), scheme);
            let page = "const page = document.documentElement; return page.scrollWidth - page.clientWidth";
            assert_eq!(self.browser.run(page), 0, "at {width} pixels it can be scrolled sideways, {scheme}");
            assert_eq!(self.browser.run(include_str!("contrast.js")), serde_json::json!([]), "{scheme}");
        }
        self.browser.look((1280, 900), "light");
    }
}
