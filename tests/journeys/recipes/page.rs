//! The page, and gateways that serve what it says.

use cast::wire::Address;
use cast::{Folder, Gateway, Page};
use serde_yaml::Value;

/// The page.
pub(crate) fn page() -> Page {
    Page::read("gateway/RECIPES.md")
}

/// A configuration of the page that is about to be served here.
pub(crate) struct Recipe(Value);

impl Recipe {
    /// The one below a heading, the first if there are several.
    #[track_caller]
    pub(crate) fn of(heading: &str) -> Self {
        Self::nth(heading, 0)
    }

    /// The same if it is another one.
    #[track_caller]
    pub(crate) fn nth(heading: &str, index: usize) -> Self {
        let below = page().configurations().into_iter().filter(|block| block.heading == heading).nth(index);
        let block = below.unwrap_or_else(|| panic!("the page has no configuration {index} below {heading:?}"));
        Self(serde_yaml::from_str(&block.text).unwrap_or_else(|error| panic!("below {heading:?}: {error}")))
    }

    /// The host that the recipe dials.
    pub(crate) fn host(&self) -> String {
        let address = self.0["spec"]["proxies"][0]["client"]["addresses"][0].as_str().expect("a recipe has an address");
        address.rsplit_once(':').map_or(address, |(host, _)| host).to_owned()
    }

    /// The name that it wants in the certificate, where it writes one.
    pub(crate) fn server_name(&self) -> Option<String> {
        self.0["spec"]["proxies"][0]["client"]["tls"]["serverName"].as_str().map(str::to_owned)
    }

    /// Has it look for this name in the certificate, because the host cannot be dialed by its name here.
    pub(crate) fn expecting(mut self, name: &str) -> Self {
        self.0["spec"]["proxies"][0]["client"]["tls"]["serverName"] = name.into();
        self
    }

    /// Serves it before the database at this address.
    #[track_caller]
    pub(crate) fn serve(mut self, database: &Address, secrets: &Folder) -> Gateway {
        let spec = &mut self.0["spec"];
        spec["proxies"][0]["client"]["addresses"] = vec![Value::from(database.to_string())].into();
        spec["proxies"][0]["server"]["address"] = "127.0.0.1:0".into();
        spec["admin"]["address"] = "127.0.0.1:0".into();
        let text = serde_yaml::to_string(&self.0).unwrap();
        Gateway::with_text(&text).told(&["--secrets", &secrets.display().to_string()]).start()
    }
}
