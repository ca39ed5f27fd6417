//! Settings: file < environment < flags, each validated once; limits with their reasons.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

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
    /// File with the key under which secrets are sealed in the database; `keys/secrets.key` in the data folder when absent.
    /// Servers over one database need the same.
    pub secrets_key_file: Option<PathBuf>,
    /// Server that takes mail with alerts; without it no mail is sent.
    pub smtp_host: Option<String>,
    /// Its port; 465 with `tls`, 587 with `starttls`, 25 with `none` when absent.
    pub smtp_port: Option<u16>,
    /// How the connection to it is protected.
    pub smtp_tls: SmtpTls,
    /// User name there.
    pub smtp_user: Option<String>,
    /// File with the password. The password itself is no setting, so it cannot be printed.
    pub smtp_password_file: Option<PathBuf>,
    /// Sender of mail: `alerts@example.com` or `Tillward <alerts@example.com>`.
    pub smtp_from: Option<String>,
    /// Where the robots of chat groups are, in place of their own hosts. No file and no variable sets it: it is for tests
    /// that start a server within their own process.
    #[serde(skip)]
    pub robots_url: Option<String>,
}

/// How a connection to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SmtpTls {
    /// From the first byte on.
    Tls,
    /// After a greeting; without it nothing is sent.
    Starttls,
    /// Not at all: for a relay on this machine or in one's own network.
    None,
}

/// How mail is sent.
#[derive(Clone)]
pub struct Smtp {
    /// Name or address of the server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: SmtpTls,
    /// User name and password.
    pub credentials: Option<(String, Zeroizing<String>)>,
    /// Sender.
    pub from: String,
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
            secrets_key_file: None,
            smtp_host: None,
            smtp_port: None,
            smtp_tls: SmtpTls::Tls,
            smtp_user: None,
            smtp_password_file: None,
            smtp_from: None,
            robots_url: None,
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
        if self.smtp_host.is_some() != self.smtp_from.is_some() {
            return invalid("smtp_host", "needs smtp_from as well, and the other way round".to_owned());
        }
        if self.smtp_user.is_some() != self.smtp_password_file.is_some() {
            return invalid("smtp_user", "needs smtp_password_file as well, and the other way round".to_owned());
        }
        let is_here = self.smtp_host.as_deref().is_some_and(|host| ["localhost", "127.0.0.1", "::1"].contains(&host));
        if self.smtp_user.is_some() && self.smtp_tls == SmtpTls::None && !is_here {
            return invalid("smtp_tls", "must be tls or starttls, or the password could be read on the way".to_owned());
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

    /// Where the key of the secrets in the database is.
    pub fn secrets_key(&self) -> PathBuf {
        self.secrets_key_file.clone().unwrap_or_else(|| self.data_dir.join("keys").join("secrets.key"))
    }

    /// How mail is sent, if it is to be.
    ///
    /// # Errors
    /// [`ConfigError::Read`] for the file with the password.
    pub fn smtp(&self) -> Result<Option<Smtp>, ConfigError> {
        let (Some(host), Some(from)) = (&self.smtp_host, &self.smtp_from) else { return Ok(None) };
        let password = self.smtp_password_file.as_deref().map(|path| {
            let text = std::fs::read_to_string(path);
            text.map_err(|source| ConfigError::Read { path: path.to_owned(), source })
        });
        let password = password.transpose()?.map(|text| Zeroizing::new(text.trim().to_owned()));
        let usual_port = match self.smtp_tls {
            SmtpTls::Tls => 465,
            SmtpTls::Starttls => 587,
            SmtpTls::None => 25,
        };
        Ok(Some(Smtp {
            host: host.clone(),
            port: self.smtp_port.unwrap_or(usual_port),
            tls: self.smtp_tls,
            credentials: self.smtp_user.clone().zip(password),
            from: from.clone(),
        }))
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
const NUMBERS: &[&str] = &["check_in_interval_s", "workers", "approval_from_terminals", "smtp_port"];
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
    "secrets_key_file",
    "smtp_host",
    "smtp_port",
    "smtp_tls",
    "smtp_user",
    "smtp_password_file",
    "smtp_from",
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
            secrets_key_file: Some(PathBuf::new()),
            smtp_host: Some(String::new()),
            smtp_port: Some(0),
            smtp_user: Some(String::new()),
            smtp_password_file: Some(PathBuf::new()),
            smtp_from: Some(String::new()),
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
        assert_eq!(set("TILLWARD_APPROVAL_FROM_TERMINALS", "5").unwrap().approval_from_terminals, 5);
        assert!(set("TILLWARD_CHECK_IN_INTERVAL_S", "0").unwrap_err().to_string().contains("check_in_interval_s"));
        assert!(set("TILLWARD_MODE", "fast").unwrap_err().to_string().contains("fast"));
        assert!(set("TILLWARD_PUBLIC_URL", "ftp://x").unwrap_err().to_string().contains("public_url"));
        let proxies = set("TILLWARD_TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8").unwrap().trusted_proxies;
        assert_eq!(proxies.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.1/32", "10.0.0.0/8"]);
        assert_eq!(set("TILLWARD_TRUSTED_PROXIES", "").unwrap().trusted_proxies, []);
        assert!(set("TILLWARD_TRUSTED_PROXIES", "proxy.lan").unwrap_err().to_string().contains("proxy.lan"));
    }

    #[test]
    fn settings_of_mail_belong_together_and_passwords_do_not_travel_openly() {
        let check = |change: fn(&mut Config)| {
            let mut config = Config {
                smtp_host: Some("mail.example.com".to_owned()),
                smtp_from: Some("Tillward <alerts@example.com>".to_owned()),
                ..Config::default()
            };
            change(&mut config);
            config.check().map_err(|error| error.to_string())
        };
        let with_password = |config: &mut Config| {
            config.smtp_user = Some("alerts".to_owned());
            config.smtp_password_file = Some(PathBuf::from("password"));
        };
        assert_eq!(check(|_| {}), Ok(()));
        assert_eq!(check(with_password), Ok(()));
        assert!(check(|config| config.smtp_from = None).unwrap_err().contains("smtp_from"));
        assert!(
            check(|config| config.smtp_user = Some("alerts".to_owned())).unwrap_err().contains("smtp_password_file")
        );
        let open = |config: &mut Config| {
            config.smtp_user = Some("alerts".to_owned());
            config.smtp_password_file = Some(PathBuf::from("password"));
            config.smtp_tls = SmtpTls::None;
        };
        assert!(check(open).unwrap_err().contains("smtp_tls"));
        let mut local =
            Config { smtp_host: Some("127.0.0.1".to_owned()), smtp_from: Some("a@b".to_owned()), ..Config::default() };
        open(&mut local);
        assert!(local.check().is_ok(), "within this machine nobody listens");
        let ports = [(SmtpTls::Tls, 465), (SmtpTls::Starttls, 587), (SmtpTls::None, 25)];
        for (smtp_tls, port) in ports {
            let config = Config { smtp_tls, smtp_user: None, smtp_password_file: None, ..local.clone() };
            assert_eq!(config.smtp().unwrap().unwrap().port, port);
        }
        assert!(Config::default().smtp().unwrap().is_none());
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
