//! Settings: file < environment < flags, each validated once; limits with their reasons.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::addresses::Network;
use crate::blobs::S3Options;
use crate::db::Location;

/// What one reseller's shop can survey is rolled out by one person.
const APPROVAL_FROM_TERMINALS: u64 = 1_000;

/// How keys are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One key a role on the server's own disk. For trying out, never for real terminals.
    Quickstart,
    /// Offline keys; the server refuses to start with keys on its disk.
    Production,
}

/// The settings as they stand in `tillward.toml`. Every field has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Address under which browsers and terminals reach this server, for links and secure cookies.
    pub public_url: Option<String>,
    /// Folder for the database, firmware, and quick-start keys.
    pub data_dir: PathBuf,
    /// `postgres://…`; without it SQLite in the data folder.
    pub database_url: Option<String>,
    /// `s3://bucket/prefix`; without it the folder `blobs` in the data folder.
    pub blobs_url: Option<String>,
    /// Another S3 endpoint than Amazon's, for example `https://minio.internal:9000`.
    pub s3_endpoint: Option<String>,
    /// Region of the bucket; `us-east-1` when absent.
    pub s3_region: Option<String>,
    /// Access key id for the bucket.
    pub s3_access_key_id: Option<String>,
    /// File with the secret of the access key. The secret itself is no setting, so it cannot be printed.
    pub s3_secret_key_file: Option<PathBuf>,
    /// How keys are kept.
    pub mode: Mode,
    /// Normal interval between check-ins of one terminal, s.
    pub check_in_interval_s: u32,
    /// Threads that answer requests; 0 = one a core.
    pub workers: usize,
    /// A rollout to this many terminals or more needs a second person to start, widen or override it; 0 = every one.
    pub approval_from_terminals: u64,
    /// Time zone of the console.
    pub time_zone: String,
    /// PEM file of the certificate chain; with `tls_key`, the server speaks TLS itself.
    pub tls_certificate: Option<PathBuf>,
    /// PEM file of the certificate's key.
    pub tls_key: Option<PathBuf>,
    /// Proxies that are believed what `X-Forwarded-For` says of the client's address: addresses or networks such as
    /// `10.0.0.0/8`, in the environment with commas between. Limits count by that address.
    pub trusted_proxies: Vec<Network>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8420)),
            public_url: None,
            data_dir: PathBuf::from("tillward-data"),
            database_url: None,
            blobs_url: None,
            s3_endpoint: None,
            s3_region: None,
            s3_access_key_id: None,
            s3_secret_key_file: None,
            mode: Mode::Quickstart,
            check_in_interval_s: 900,
            workers: 0,
            approval_from_terminals: APPROVAL_FROM_TERMINALS,
            time_zone: "Asia/Shanghai".to_owned(),
            tls_certificate: None,
            tls_key: None,
            trusted_proxies: Vec::new(),
        }
    }
}

/// Why settings were refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not valid.
    #[error("{path}: {problem}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line and reason.
        problem: String,
    },
    /// One setting has an impossible value.
    #[error("config error {setting}: {problem}")]
    Invalid {
        /// The setting.
        setting: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
}

/// Shortest and longest interval between check-ins, s. Below a second a terminal would only poll; above a week nobody
/// would notice its loss.
const CHECK_IN_INTERVAL_S: std::ops::RangeInclusive<u32> = 1..=604_800;

impl Config {
    /// Reads a settings file, then the environment (`TILLWARD_LISTEN`, `TILLWARD_DATABASE_URL`, … one for each field).
    ///
    /// # Errors
    /// [`ConfigError`] naming the file, the environment variable or the setting.
    pub fn load(file: Option<&Path>, environment: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut table = match file {
            None => toml::Table::new(),
            Some(path) => std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?
                .parse()
                .map_err(|error: toml::de::Error| ConfigError::Parse {
                    path: path.to_owned(),
                    problem: error.to_string(),
                })?,
        };
        for field in FIELDS {
            if let Some(value) = environment(&format!("TILLWARD_{}", field.to_uppercase())) {
                table.insert((*field).to_owned(), from_environment(field, value));
            }
        }
        let config: Self =
            toml::Value::Table(table).try_into().map_err(|error: toml::de::Error| ConfigError::Parse {
                path: file.map_or_else(|| PathBuf::from("environment"), Path::to_owned),
                problem: error.to_string(),
            })?;
        config.check()?;
        Ok(config)
    }

    /// Checks what types alone cannot say.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`].
    pub fn check(&self) -> Result<(), ConfigError> {
        let invalid = |setting, problem: String| Err(ConfigError::Invalid { setting, problem });
        if !CHECK_IN_INTERVAL_S.contains(&self.check_in_interval_s) {
            let (least, most) = (CHECK_IN_INTERVAL_S.start(), CHECK_IN_INTERVAL_S.end());
            return invalid("check_in_interval_s", format!("must be {least} to {most} s"));
        }
        if self.tls_certificate.is_some() != self.tls_key.is_some() {
            return invalid("tls_certificate", "needs tls_key as well, and the other way round".to_owned());
        }
        match &self.public_url {
            Some(url) if !url.starts_with("http://") && !url.starts_with("https://") => {
                invalid("public_url", "must start with http:// or https://".to_owned())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The same settings with passwords and parameters of URLs replaced, fit to be shown.
    pub fn masked(&self) -> Self {
        let mask = |url: &String| {
            let (url, query) = url.split_once('?').map_or((url.as_str(), ""), |(url, _)| (url, "?…"));
            match (url.split_once("://"), url.rsplit_once('@')) {
                (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}{query}"),
                _ => format!("{url}{query}"),
            }
        };
        Self {
            database_url: self.database_url.as_ref().map(mask),
            blobs_url: self.blobs_url.as_ref().map(mask),
            ..self.clone()
        }
    }

    /// Where the tables are.
    pub fn database(&self) -> Location {
        match &self.database_url {
            Some(url) => Location::parse(url),
            None => Location::Sqlite(self.data_dir.join("tillward.sqlite3")),
        }
    }

    /// Where firmware and signed documents are, and how to reach a bucket.
    ///
    /// # Errors
    /// [`ConfigError::Read`] for the file with the secret.
    pub fn blobs(&self) -> Result<(String, S3Options), ConfigError> {
        let secret = self.s3_secret_key_file.as_deref().map(|path| {
            let text = std::fs::read_to_string(path);
            text.map_err(|source| ConfigError::Read { path: path.to_owned(), source })
        });
        let options = S3Options {
            endpoint: self.s3_endpoint.clone(),
            region: self.s3_region.clone(),
            access_key_id: self.s3_access_key_id.clone(),
            secret_access_key: secret.transpose()?.map(|text| text.trim().to_owned()),
        };
        let folder = self.data_dir.join("blobs").to_string_lossy().into_owned();
        Ok((self.blobs_url.clone().unwrap_or(folder), options))
    }

    /// Whether cookies may only travel over TLS.
    pub fn is_secure(&self) -> bool {
        self.tls_certificate.is_some() || self.public_url.as_deref().is_some_and(|url| url.starts_with("https://"))
    }
}

/// The value of an environment variable in the type that its field has in a file.
fn from_environment(field: &str, text: String) -> toml::Value {
    if LISTS.contains(&field) {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        return toml::Value::Array(items.map(|item| item.to_owned().into()).collect());
    }
    // Only where a number is meant: an access key id may well consist of digits.
    match text.parse::<i64>() {
        Ok(number) if NUMBERS.contains(&field) => toml::Value::Integer(number),
        Ok(_) | Err(_) => toml::Value::String(text),
    }
}

/// Fields that are numbers.
const NUMBERS: &[&str] = &["check_in_interval_s", "workers"];
/// Fields that are lists.
const LISTS: &[&str] = &["trusted_proxies"];
/// Names of all fields, each also an environment variable.
const FIELDS: &[&str] = &[
    "listen",
    "public_url",
    "data_dir",
    "database_url",
    "blobs_url",
    "s3_endpoint",
    "s3_region",
    "s3_access_key_id",
    "s3_secret_key_file",
    "mode",
    "check_in_interval_s",
    "workers",
    "approval_from_terminals",
    "time_zone",
    "tls_certificate",
    "tls_key",
    "trusted_proxies",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_can_come_from_the_environment() {
        let toml::Value::Table(fields) = toml::Value::try_from(Config {
            public_url: Some(String::new()),
            database_url: Some(String::new()),
            blobs_url: Some(String::new()),
            s3_endpoint: Some(String::new()),
            s3_region: Some(String::new()),
            s3_access_key_id: Some(String::new()),
            s3_secret_key_file: Some(PathBuf::new()),
            tls_certificate: Some(PathBuf::new()),
            tls_key: Some(PathBuf::new()),
            ..Config::default()
        })
        .unwrap() else {
            panic!("a config is a table")
        };
        let mut names: Vec<&str> = fields.keys().map(String::as_str).collect();
        let mut known = FIELDS.to_vec();
        names.sort_unstable();
        known.sort_unstable();
        assert_eq!(names, known);
    }

    #[test]
    fn the_environment_overrides_the_defaults_and_bad_values_are_named() {
        let set = |name: &'static str, value: &'static str| {
            Config::load(None, move |asked| (asked == name).then(|| value.to_owned()))
        };
        assert_eq!(set("TILLWARD_CHECK_IN_INTERVAL_S", "60").unwrap().check_in_interval_s, 60);
        assert!(set("TILLWARD_CHECK_IN_INTERVAL_S", "0").unwrap_err().to_string().contains("check_in_interval_s"));
        assert!(set("TILLWARD_MODE", "fast").unwrap_err().to_string().contains("fast"));
        assert!(set("TILLWARD_PUBLIC_URL", "ftp://x").unwrap_err().to_string().contains("public_url"));
        let proxies = set("TILLWARD_TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8").unwrap().trusted_proxies;
        assert_eq!(proxies.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.1/32", "10.0.0.0/8"]);
        assert_eq!(set("TILLWARD_TRUSTED_PROXIES", "").unwrap().trusted_proxies, []);
        assert!(set("TILLWARD_TRUSTED_PROXIES", "proxy.lan").unwrap_err().to_string().contains("proxy.lan"));
    }

    #[test]
    fn text_that_looks_like_a_number_stays_text() {
        let config = Config::load(None, |asked| (asked == "TILLWARD_S3_ACCESS_KEY_ID").then(|| "0815".to_owned()));
        assert_eq!(config.unwrap().s3_access_key_id.as_deref(), Some("0815"));
    }

    #[test]
    fn no_password_of_a_url_is_shown() {
        for (url, shown) in [
            ("postgres://me:hush@host/db", "postgres://…@host/db"),
            ("postgres://host/db?user=me&password=hush", "postgres://host/db?…"),
            ("postgres://me:hu@sh@host/db?sslmode=require", "postgres://…@host/db?…"),
            ("postgres://host/db", "postgres://host/db"),
            ("/var/lib/tillward.sqlite3", "/var/lib/tillward.sqlite3"),
        ] {
            let config = Config { database_url: Some(url.to_owned()), ..Config::default() };
            assert_eq!(config.masked().database_url.as_deref(), Some(shown));
        }
    }
}
