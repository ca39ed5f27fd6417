//! What an administrator does by REST, for the demo and the load generator.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::client::{Answer, Client};

/// An operator's API key and the server it is for.
#[derive(Clone)]
pub struct Admin {
    client: Arc<Client>,
    token: String,
}

/// Who the first administrator is.
#[derive(Debug, Clone)]
pub struct Login {
    /// Name to sign in with.
    pub login: String,
    /// Password.
    pub password: String,
}

impl Admin {
    /// Calls with this access token or API key.
    pub fn new(client: Arc<Client>, token: String) -> Self {
        Self { client, token }
    }

    /// Makes the first administrator of an empty server with its bootstrap token, and an API key to go on with.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn set_up(client: Arc<Client>, bootstrap_token: &str, login: &Login) -> anyhow::Result<Self> {
        let stranger = Self::new(client, String::new());
        let body = json!({
            "bootstrap_token": bootstrap_token, "login": login.login, "name": "Demo administrator",
            "password": login.password, "organization_name": "总部 Headquarters",
        });
        let _: Value = stranger.post("/api/v1/setup", &body).await?;
        Self::sign_in(stranger.client, login).await
    }

    /// Signs in and makes an API key: a session ends while simulated days pass, a key does not.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn sign_in(client: Arc<Client>, login: &Login) -> anyhow::Result<Self> {
        let mut admin = Self::new(client, String::new());
        let body = json!({"login": login.login, "password": login.password});
        let session: Value = admin.post("/api/v1/session", &body).await?;
        admin.token = text(&session, "access_token")?;
        let body = json!({"name": "simulated fleet", "role": "platform_admin", "expires_in_days": 30});
        let key: Value = admin.post("/api/v1/api-keys", &body).await?;
        admin.token = text(&key, "secret")?;
        Ok(admin)
    }

    /// `GET path`.
    ///
    /// # Errors
    /// When the server does not answer with success.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.send("GET", path, "", b"").await?.json().map_err(|error| error.context(format!("GET {path}")))
    }

    /// The bytes at `path`.
    ///
    /// # Errors
    /// When the server does not answer with 200.
    pub async fn bytes(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let answer = self.send("GET", path, "", b"").await?;
        anyhow::ensure!(answer.status == 200, "GET {path}: the server answered {}", answer.status);
        Ok(answer.body)
    }

    /// `POST path` with JSON.
    ///
    /// # Errors
    /// When the server does not answer with success.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        self.upload(path, "application/json", &serde_json::to_vec(body)?).await
    }

    /// `POST path` with any body.
    ///
    /// # Errors
    /// When the server does not answer with success.
    pub async fn upload<T: DeserializeOwned>(&self, path: &str, kind: &str, body: &[u8]) -> anyhow::Result<T> {
        self.send("POST", path, kind, body).await?.json().map_err(|error| error.context(format!("POST {path}")))
    }

    async fn send(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> anyhow::Result<Answer> {
        let bearer = format!("Bearer {}", self.token);
        let mut headers = Vec::new();
        if !self.token.is_empty() {
            headers.push(("authorization", bearer.as_str()));
        }
        if !kind.is_empty() {
            headers.push(("content-type", kind));
        }
        let sent = self.client.send(method, path, &headers, body).await;
        sent.map_err(|error| anyhow::Error::from(error).context(format!("{method} {path}")))
    }
}

/// The text in this field.
///
/// # Errors
/// When there is none.
pub fn text(value: &Value, field: &str) -> anyhow::Result<String> {
    value[field].as_str().map(str::to_owned).ok_or_else(|| anyhow::anyhow!("the answer has no text `{field}`: {value}"))
}

/// The number in this field.
///
/// # Errors
/// When there is none.
pub fn number(value: &Value, field: &str) -> anyhow::Result<i64> {
    value[field].as_i64().ok_or_else(|| anyhow::anyhow!("the answer has no number `{field}`: {value}"))
}
