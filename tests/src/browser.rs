//! A headless Chromium, driven over WebDriver: what a person sees and clicks.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::Client;
use crate::programs::{self, Process};
use crate::wait_within;

/// The name under which WebDriver hands out elements.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// Longest wait for something to appear.
const PATIENCE: Duration = Duration::from_secs(20);

/// One browser window with a profile of its own.
pub struct Browser {
    session: String,
    client: Client,
    _driver: Process,
    _profile: TempDir,
}

impl Browser {
    /// Opens one; `None`, and said, where there is no Chromium or no driver for it.
    ///
    /// # Panics
    /// When they are there and do not work.
    pub fn open(suite: &str) -> Option<Self> {
        for name in ["chromedriver", "chromium"] {
            if Command::new(name).arg("--version").output().is_err() {
                crate::skip(suite, &format!("{name} is not installed (Debian: chromium, chromium-driver)"));
                return None;
            }
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = programs::command(&PathBuf::from("chromedriver"));
        command.arg(format!("--port={port}")).stdout(Stdio::null()).stderr(Stdio::null());
        let driver = Process::start(&mut command);
        let client = Client::new(Duration::from_secs(60));
        let url = format!("http://127.0.0.1:{port}");
        wait_within(PATIENCE, "chromedriver answers", || {
            client.send("GET", &format!("{url}/status"), "", "", b"").is_ok_and(|answer| answer.status == 200)
        });
        let profile = tempfile::tempdir().unwrap();
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"args": [
                "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run",
                "--window-size=1280,900", format!("--user-data-dir={}", profile.path().display()),
            ]},
        }}});
        let answer = client.post(&format!("{url}/session"), "", &capabilities).unwrap();
        assert_eq!(answer.status, 200, "no browser: {}", answer.text());
        let opened: Value = answer.json();
        let id = opened["value"]["sessionId"].as_str().unwrap();
        Some(Self { session: format!("{url}/session/{id}"), client, _driver: driver, _profile: profile })
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let url = format!("{}{path}", self.session);
        let answer = match method {
            "GET" | "DELETE" => self.client.send(method, &url, "", "", b""),
            _ => self.client.send(method, &url, "", "application/json", body.to_string().as_bytes()),
        };
        let answer = answer.map_err(|error| error.to_string())?;
        let value: Value = answer.json();
        if answer.status == 200 { Ok(value["value"].clone()) } else { Err(value["value"].to_string()) }
    }

    /// Goes to an address.
    ///
    /// # Panics
    /// When the page does not load.
    pub fn go(&self, url: &str) {
        self.call("POST", "/url", &json!({"url": url})).unwrap();
    }

    /// Address of the page.
    ///
    /// # Panics
    /// When there is none.
    pub fn address(&self) -> String {
        self.call("GET", "/url", &Value::Null).unwrap().as_str().unwrap().to_owned()
    }

    /// Runs a script in the page; gives what it returns.
    ///
    /// # Panics
    /// When it throws.
    pub fn script(&self, body: &str) -> Value {
        self.call("POST", "/execute/sync", &json!({"script": body, "args": []})).unwrap()
    }

    /// Waits until an element is there to be seen; gives its id.
    fn find(&self, selector: &str) -> String {
        let mut found = None;
        wait_within(PATIENCE, &format!("{selector} is shown on {}", self.address()), || {
            let element = self.call("POST", "/element", &json!({"using": "css selector", "value": selector}));
            found = element.ok().and_then(|element| element[ELEMENT].as_str().map(str::to_owned));
            found.as_ref().is_some_and(|id| {
                self.call("GET", &format!("/element/{id}/displayed"), &Value::Null).is_ok_and(|shown| shown == true)
            })
        });
        found.unwrap_or_default()
    }

    /// Waits until an element is there to be seen.
    ///
    /// # Panics
    /// When it does not appear.
    pub fn wait_for(&self, selector: &str) {
        self.find(selector);
    }

    /// Makes the window as small as a phone's.
    ///
    /// # Panics
    /// When the browser cannot.
    pub fn shrink_to_phone(&self) {
        let size = json!({"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": true});
        let command = json!({"cmd": "Emulation.setDeviceMetricsOverride", "params": size});
        self.call("POST", "/goog/cdp/execute", &command).unwrap();
    }

    /// Waits until an element is there to be seen, and clicks it.
    ///
    /// # Panics
    /// When it does not appear or something covers it.
    pub fn click(&self, selector: &str) {
        let id = self.find(selector);
        if let Err(problem) = self.call("POST", &format!("/element/{id}/click"), &json!({})) {
            panic!("{selector} on {} cannot be clicked: {problem}", self.address());
        }
    }

    /// Types into a field, over what is in it.
    ///
    /// # Panics
    /// When it does not appear.
    pub fn type_into(&self, selector: &str, text: &str) {
        let id = self.find(selector);
        self.call("POST", &format!("/element/{id}/clear"), &json!({})).unwrap();
        self.call("POST", &format!("/element/{id}/value"), &json!({"text": text})).unwrap();
    }

    /// Text of an element as it is shown.
    ///
    /// # Panics
    /// When it does not appear.
    pub fn text(&self, selector: &str) -> String {
        let id = self.find(selector);
        self.call("GET", &format!("/element/{id}/text"), &Value::Null).unwrap().as_str().unwrap().to_owned()
    }

    /// Waits until the address has this text.
    ///
    /// # Panics
    /// When it does not come to that.
    pub fn wait_for_address(&self, part: &str) {
        wait_within(PATIENCE, &format!("the address has {part}, it is {}", self.address()), || {
            self.address().contains(part)
        });
    }

    /// Waits until an element shows this text.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_for_text(&self, selector: &str, text: &str) {
        wait_within(PATIENCE, &format!("{selector} shows {text:?}; it shows {:?}", self.text(selector)), || {
            self.text(selector).contains(text)
        });
    }

    /// What is wrong with the page for somebody who does not see it: no language, fields or buttons without a name,
    /// no heading, images without a text. Empty when nothing is.
    pub fn barriers(&self) -> Vec<String> {
        let script = r#"
            const found = [];
            const say = (what, element) => found.push(location.pathname + ": " + what + ": " + element.outerHTML.slice(0, 120));
            const isNamed = element => (element.textContent.trim() || element.getAttribute("aria-label") || element.title);
            if (!document.documentElement.lang) found.push("no language");
            if (!document.title.trim()) found.push("no title");
            if (document.querySelectorAll("h1").length !== 1) found.push(location.pathname + ": not one h1");
            if (!document.querySelector("main")) found.push("no main");
            for (const field of document.querySelectorAll("input:not([type=hidden]), select, textarea")) {
                const labels = [...(field.labels || [])].map(label => label.textContent.trim()).join("");
                if (!labels && !field.getAttribute("aria-label")) say("a field without a label", field);
            }
            for (const button of document.querySelectorAll("button, a[href], summary")) {
                if (!isNamed(button)) say("nothing to read aloud", button);
            }
            for (const image of document.querySelectorAll("img:not([alt])")) say("no text for", image);
            const ids = [...document.querySelectorAll("[id]")].map(element => element.id);
            for (const id of new Set(ids)) if (ids.filter(other => other === id).length > 1) found.push("id twice: " + id);
            return found;
        "#;
        serde_json::from_value(self.script(script)).unwrap()
    }

    /// What the browser complained about since the last call: refused content, errors in scripts, missing files.
    ///
    /// # Panics
    /// When the browser does not say.
    pub fn complaints(&self) -> Vec<String> {
        let entries = self.call("POST", "/se/log", &json!({"type": "browser"})).unwrap();
        let entries = entries.as_array().cloned().unwrap_or_default();
        let is_bad =
            |entry: &&Value| entry["level"] == "SEVERE" || entry["message"].to_string().contains("Content Security");
        entries.iter().filter(is_bad).map(|entry| entry["message"].to_string()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium is the driver's child: without this it would outlive it.
        let _ = self.call("DELETE", "", &Value::Null);
    }
}
