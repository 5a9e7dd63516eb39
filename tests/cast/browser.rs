//! A real Chromium, driven through its own driver: what a person sees, presses and is kept from.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::folder::Folder;
use crate::http;
use crate::install::program;
use crate::process::{Process, is_root, owned};
use crate::time::found;

/// How long the driver may take for an answer: on a busy machine a browser starts slowly.
const PATIENCE: Duration = Duration::from_mins(2);

/// A browser with one window.
#[derive(Debug)]
pub struct Browser {
    driver: SocketAddr,
    session: String,
    _process: Process,
    _profile: Folder,
}

// === impl Browser ===

impl Browser {
    /// A browser that has no window on any screen, and asks nobody anything by itself.
    #[track_caller]
    pub fn start() -> Self {
        let profile = Folder::new("browser");
        // Its own folder for whatever it writes: it would take the user's.
        let mut command = if is_root() {
            // In this the browser, which is a child of its driver, ends with it however that ends.
            let mut command = owned("unshare");
            command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"]).arg(program("chromedriver"));
            command
        } else {
            owned(program("chromedriver"))
        };
        command.arg("--port=0").env("HOME", &*profile).env("XDG_RUNTIME_DIR", &*profile).env("TMPDIR", &*profile);
        let process = Process::start("chromedriver", &mut command);
        let port = found("the browser's driver listens", || {
            let lines = process.lines();
            let line = lines.iter().find(|line| line.contains("started successfully on port"))?;
            line.trim_end_matches('.').rsplit(' ').next()?.parse::<u16>().ok()
        });
        let folder = profile.join("profile").display().to_string();
        let driver = (Ipv4Addr::LOCALHOST, port).into();
        let mut browser = Self { driver, session: String::new(), _process: process, _profile: profile };
        let arguments = [
            "--headless=new",
            // Root has no sandbox to offer, and the pages are our own.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "--force-color-profile=srgb",
            "--lang=en",
            &format!("--user-data-dir={folder}"),
        ];
        let options = json!({"binary": program("chromium"), "args": arguments});
        let logs = json!({"browser": "ALL", "performance": "ALL"});
        let wanted = json!({"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": logs});
        let begun = browser.ask("POST /session", &json!({"capabilities": {"alwaysMatch": wanted}}));
        browser.session = begun["sessionId"].as_str().expect("a session has a name").into();
        browser
    }

    /// Goes to an address, and waits until its document has been read.
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.command("url", &json!({"url": url}));
    }

    /// What the body of a function of JavaScript returns on the page.
    #[track_caller]
    pub fn run(&self, body: &str) -> Value {
        self.command("execute/sync", &json!({"script": body, "args": []}))
    }

    /// The text that a person reads there; empty where nothing fits the selector or nothing is seen.
    #[track_caller]
    pub fn text(&self, selector: &str) -> String {
        let text = self.run(&format!("return document.querySelector({})?.innerText ?? ''", json!(selector)));
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the text there contains `wanted`.
    #[track_caller]
    pub fn expect(&self, selector: &str, wanted: &str) {
        let mut last = String::new();
        let is_there = crate::time::comes_true(Duration::from_mins(1), || {
            last = self.text(selector);
            last.contains(wanted)
        });
        assert!(is_there, "{selector} does not say {wanted:?} but {last:?}; all of it:\n{}", self.text("body"));
    }

    /// Presses keys, wherever the focus is.
    #[track_caller]
    pub fn press(&self, keys: &str) {
        let strokes = keys.chars().flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key})));
        let strokes: Vec<_> = strokes.collect();
        self.command("actions", &json!({"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]}));
    }

    /// Gives the page so many CSS pixels, in a light or a dark scheme.
    #[track_caller]
    pub fn look(&self, (width, height): (u32, u32), scheme: &str) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
        let scheme = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", &scheme);
    }

    /// A picture of what is in the window, as PNG.
    #[track_caller]
    pub fn picture(&self) -> Vec<u8> {
        let picture = self.devtools("Page.captureScreenshot", &json!({"format": "png"}));
        STANDARD.decode(picture["data"].as_str().unwrap_or_default()).expect("a picture is written in base64")
    }

    /// What the console has said since it was asked last: errors, and what a policy forbade.
    #[track_caller]
    pub fn console(&self) -> Vec<String> {
        self.log("browser").iter().filter_map(|line| Some(line["message"].as_str()?.to_owned())).collect()
    }

    /// What pages have asked for since it was asked last, of whomever.
    #[track_caller]
    pub fn requests(&self) -> Vec<String> {
        let told = self.log("performance").into_iter().filter_map(|line| {
            let told: Value = serde_json::from_str(line["message"].as_str()?).ok()?;
            let is_request = told["message"]["method"] == "Network.requestWillBeSent";
            is_request.then(|| told["message"]["params"]["request"]["url"].as_str().map(str::to_owned)).flatten()
        });
        told.collect()
    }

    /// Carries out a command of the protocol that its developer tools speak.
    #[track_caller]
    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.command("goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    #[track_caller]
    fn log(&self, kind: &str) -> Vec<Value> {
        self.command("se/log", &json!({"type": kind})).as_array().cloned().unwrap_or_default()
    }

    #[track_caller]
    fn command(&self, command: &str, body: &Value) -> Value {
        self.ask(&format!("POST /session/{}/{command}", self.session), body)
    }

    #[track_caller]
    fn ask(&self, what: &str, body: &Value) -> Value {
        let response = http::ask(self.driver, what, &body.to_string(), PATIENCE);
        let response = response.unwrap_or_else(|error| panic!("{what}: {error}"));
        let said: Value = serde_json::from_str(&response.body).unwrap_or_default();
        assert_eq!(response.status, 200, "{what} {body}: {}", said["value"]["message"]);
        said["value"].clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends with its driver's session; without one it has never begun, or ends with its driver.
        let _ = http::ask(self.driver, &format!("DELETE /session/{}", self.session), "", PATIENCE);
    }
}
