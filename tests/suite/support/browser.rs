//! Debian's Chromium without a window, driven by `WebDriver`, which is JSON over HTTP.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

/// A browser with one tab. It ends when this is dropped.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    client: reqwest::Client,
    /// What it keeps on disk.
    _directory: tempfile::TempDir,
}

impl Browser {
    /// `None`, with a notice, where there is none; it has to be there where every test is asked for.
    pub(crate) async fn start() -> Option<Self> {
        let has = |program: &str| Command::new(program).arg("--version").output().is_ok();
        if !super::is_there("chromium", "chromium", has("chromium"))
            || !super::is_there("chromedriver", "chromium-driver", has("chromedriver"))
        {
            return None;
        }
        let mut driver = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let rest = line.split_once("successfully on port ")?.1;
            rest.trim_end_matches('.').parse().ok()
        });
        // It must not find the pipe closed.
        std::thread::spawn(move || lines.for_each(drop));
        let directory = tempfile::tempdir().unwrap();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let mut browser = Self { driver, port: port.unwrap(), session: String::new(), client, _directory: directory };
        let arguments = [
            "--headless=new".to_owned(),
            // Only what this project serves is opened, and containers lack what the sandbox needs.
            "--no-sandbox".into(),
            "--disable-dev-shm-usage".into(),
            "--disable-gpu".into(),
            "--disable-background-networking".into(),
            "--no-proxy-server".into(),
            "--force-color-profile=srgb".into(),
            format!("--user-data-dir={}", browser._directory.path().display()),
        ];
        let options = json!({ "args": arguments });
        let capabilities = json!({ "alwaysMatch": {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            "timeouts": { "pageLoad": 170_000, "script": 170_000 },
        }});
        let session = browser.ask("", &json!({ "capabilities": capabilities })).await;
        browser.session = session["sessionId"].as_str().unwrap().to_owned();
        // It begins with a page of its own, which loads this and that.
        browser.open("about:blank").await;
        browser.log("performance").await;
        browser.log("browser").await;
        Some(browser)
    }

    pub(crate) async fn open(&self, url: &str) {
        self.ask("/url", &json!({ "url": url })).await;
    }

    /// What a function with this body returns in the page.
    pub(crate) async fn run(&self, body: &str) -> Value {
        self.ask("/execute/sync", &json!({ "script": body, "args": [] })).await
    }

    /// The same for one that hands its result to `done`.
    pub(crate) async fn run_until_done(&self, body: &str) -> Value {
        let body = format!("const done = arguments[0];\n{body}");
        self.ask("/execute/async", &json!({ "script": body, "args": [] })).await
    }

    /// A command of the `DevTools` protocol.
    pub(crate) async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.ask("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters })).await
    }

    /// Types into the element as a person does.
    pub(crate) async fn write(&self, selector: &str, text: &str) {
        let element = self.element(selector).await;
        self.ask(&format!("/element/{element}/clear"), &json!({})).await;
        self.ask(&format!("/element/{element}/value"), &json!({ "text": text })).await;
    }

    pub(crate) async fn click(&self, selector: &str) {
        let element = self.element(selector).await;
        self.ask(&format!("/element/{element}/click"), &json!({})).await;
    }

    /// What the element is called to those who do not see it.
    pub(crate) async fn label(&self, selector: &str) -> String {
        let element = self.element(selector).await;
        self.look(&format!("/element/{element}/computedlabel")).await.as_str().unwrap().to_owned()
    }

    /// What it is to them.
    pub(crate) async fn role(&self, selector: &str) -> String {
        let element = self.element(selector).await;
        self.look(&format!("/element/{element}/computedrole")).await.as_str().unwrap().to_owned()
    }

    /// What it logged since this was last asked: `browser` for its console, `performance` for what it loads.
    pub(crate) async fn log(&self, of: &str) -> Vec<Value> {
        self.ask("/se/log", &json!({ "type": of })).await.as_array().unwrap().clone()
    }

    pub(crate) async fn screenshot(&self) -> String {
        self.look("/screenshot").await.as_str().unwrap().to_owned()
    }

    /// As wide and high as this, as it would be on a desk or in a hand.
    pub(crate) async fn resize(&self, width: u32, height: u32, is_phone: bool) {
        let scale = if is_phone { 2 } else { 1 };
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": is_phone });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// `light` or `dark`.
    pub(crate) async fn prefer(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    async fn element(&self, selector: &str) -> String {
        let found = self.ask("/element", &json!({ "using": "css selector", "value": selector })).await;
        found.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned()
    }

    fn url(&self, path: &str) -> String {
        let session = if self.session.is_empty() { String::new() } else { format!("/{}", self.session) };
        format!("http://127.0.0.1:{}/session{session}{path}", self.port)
    }

    async fn ask(&self, path: &str, body: &Value) -> Value {
        let request = self.client.post(self.url(path)).header("content-type", "application/json");
        Self::value(request.body(body.to_string())).await
    }

    async fn look(&self, path: &str) -> Value {
        Self::value(self.client.get(self.url(path))).await
    }

    async fn value(request: reqwest::RequestBuilder) -> Value {
        let answer = request.timeout(super::DEADLINE).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{text}");
        serde_json::from_str::<Value>(&text).unwrap()["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Or else the browser would outlive its driver. Nothing can be awaited here.
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
            let request = format!("DELETE /session/{} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", self.session);
            let _ = stream.write_all(request.as_bytes());
            let _ = stream.read(&mut [0; 1024]);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
