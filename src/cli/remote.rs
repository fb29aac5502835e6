//! Client of a running service.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use reqwest::header::ACCEPT;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::config::DEFAULT_DATA_DIR;
use crate::config::endpoints::Endpoints;
use crate::config::http::DEFAULT_PORT;
use crate::store::adapters::proxy;

/// Timeout of one request; the service itself gives up after 30 s.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A service on this machine or near it accepts connections at once or is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The flags that name a service.
#[derive(Debug, Clone, clap::Args)]
pub struct Remote {
    #[command(flatten)]
    pub address: Address,
    /// Data directory of a service on this machine, whose endpoints.json names its URL
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    pub data_dir: PathBuf,
}

/// The flags that name a service, without the data directory.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Address {
    /// The service [default: as endpoints.json in the data directory says, else
    /// http://127.0.0.1:8000]
    #[arg(long, env = "OMS_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Bearer token
    #[arg(long, env = "OMS_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
    /// File with the bearer token
    #[arg(
        long,
        env = "OMS_TOKEN_FILE",
        value_name = "FILE",
        conflicts_with = "token"
    )]
    pub token_file: Option<PathBuf>,
    /// Trust this certificate authority (PEM) too
    #[arg(long, env = "OMS_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Show this certificate (PEM), to a service that asks for one
    #[arg(long, env = "OMS_CERT", value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, env = "OMS_KEY", value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
}

/// Certificates beside those of the system, as PEM.
#[derive(Default)]
pub struct Certificates {
    /// An authority to trust.
    pub ca: Option<Vec<u8>>,
    /// A certificate to show, followed by its key.
    pub own: Option<Vec<u8>>,
}

/// Why there is no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// There was no connection, or it broke.
    #[error("cannot reach {url}: {message}")]
    Unreachable { url: String, message: String },
    /// A 4xx answer.
    #[error("refused ({status} {code}): {message}")]
    Refused {
        status: StatusCode,
        /// The problem's stable code.
        code: String,
        message: String,
    },
    /// A 429 or 5xx answer.
    #[error("unavailable ({status} {code}): {message}")]
    Unavailable {
        status: StatusCode,
        /// The problem's stable code.
        code: String,
        message: String,
        /// How long to wait before the next attempt, if the service said so.
        retry_after: Option<Duration>,
    },
    /// An answer in an unexpected form.
    #[error("{url} answered oddly: {message}")]
    Odd { url: String, message: String },
}

#[derive(Debug, Clone)]
pub struct Api {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

/// The answer to a successful request.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The body; null if there is none.
    pub body: Value,
    /// Whether it is the recorded answer to an earlier request with the same idempotency key.
    pub replayed: bool,
}

/// An answer of any status.
#[derive(Debug)]
pub struct RawAnswer {
    pub status: StatusCode,
    /// How long to wait before the next attempt, if the service said so.
    pub retry_after: Option<Duration>,
    /// See [`Answer::replayed`].
    pub replayed: bool,
    pub text: String,
}

impl Remote {
    /// A client of the service that the flags name.
    pub fn connect(&self) -> anyhow::Result<Api> {
        self.address.connect(&self.data_dir)
    }
}

impl Address {
    /// A client of the service that the flags name, or else the `endpoints.json` in `data_dir`.
    pub fn connect(&self, data_dir: &Path) -> anyhow::Result<Api> {
        let token = self.token()?;
        let base = match &self.url {
            Some(url) => url.clone(),
            None => match Endpoints::read(data_dir)? {
                Some(endpoints) => endpoints.whole().to_owned(),
                // Any process on this machine could listen on that port and would get the token.
                None if token.is_some() => anyhow::bail!(
                    "a token is sent only to a service that is named, by --url (OMS_URL) or by the \
                     endpoints.json in --data-dir, and {} has none",
                    data_dir.display()
                ),
                None => format!("http://127.0.0.1:{DEFAULT_PORT}"),
            },
        };
        Api::new(&base, token, &self.certificates()?)
    }

    fn certificates(&self) -> anyhow::Result<Certificates> {
        let read = |path: &PathBuf| {
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
        };
        let own = match (&self.cert, &self.key) {
            (Some(certificate), Some(key)) => Some([read(certificate)?, read(key)?].concat()),
            _ => None,
        };
        let ca = self.ca.as_ref().map(read).transpose()?;
        Ok(Certificates { ca, own })
    }

    fn token(&self) -> anyhow::Result<Option<String>> {
        let Some(path) = &self.token_file else {
            return Ok(self.token.clone());
        };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the token in {}", path.display()))?;
        let token = text.trim();
        anyhow::ensure!(!token.is_empty(), "there is no token in {}", path.display());
        Ok(Some(token.to_owned()))
    }
}

impl Api {
    /// A client of the service at `base`.
    pub fn new(
        base: &str,
        token: Option<String>,
        certificates: &Certificates,
    ) -> anyhow::Result<Self> {
        let mut http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("oms/", env!("CARGO_PKG_VERSION")));
        if proxy::is_loopback(base) {
            http = http.no_proxy();
        }
        if let Some(pem) = &certificates.ca {
            http = http.add_root_certificate(reqwest::Certificate::from_pem(pem)?);
        }
        if let Some(pem) = &certificates.own {
            http = http.identity(reqwest::Identity::from_pem(pem)?);
        }
        Ok(Self {
            http: http.build()?,
            base: base.trim_end_matches('/').to_owned(),
            token,
        })
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    /// `path` begins with `/`.
    pub async fn get(&self, path: &str) -> Result<Value, ApiError> {
        let request = self.request(Method::GET, path);
        self.send(request).await.map(|answer| answer.body)
    }

    /// Sends `body` as JSON; `path` begins with `/`.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        let request = self.request(Method::POST, path).json(body);
        self.send(request).await.map(|answer| answer.body)
    }

    /// A request, to be completed and passed to [`Api::send`].
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self
            .http
            .request(method, format!("{}{path}", self.base))
            .header(ACCEPT, "application/json");
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request; an answer that is no success becomes an error.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer, ApiError> {
        let raw = self.exchange(request).await?;
        let (status, text) = (raw.status, raw.text);
        let body = serde_json::from_str(&text);
        if status.is_success() {
            let body = match body {
                Ok(body) => body,
                Err(_) if text.is_empty() => Value::Null,
                Err(e) => {
                    return Err(ApiError::Odd {
                        url: self.base.clone(),
                        message: format!("{status}, and its body is not JSON: {e}"),
                    });
                }
            };
            let replayed = raw.replayed;
            return Ok(Answer { body, replayed });
        }
        Err(failure(status, raw.retry_after, &body.unwrap_or_default()))
    }

    /// The body of a plain-text answer.
    pub async fn text(&self, path: &str) -> Result<String, ApiError> {
        let raw = self.exchange(self.request(Method::GET, path)).await?;
        if raw.status.is_success() {
            return Ok(raw.text);
        }
        let body = serde_json::from_str(&raw.text).unwrap_or_default();
        Err(failure(raw.status, raw.retry_after, &body))
    }

    /// Sends a request; returns any answer, whatever its status.
    pub async fn exchange(&self, request: reqwest::RequestBuilder) -> Result<RawAnswer, ApiError> {
        let unreachable = |e: reqwest::Error| ApiError::Unreachable {
            url: self.base.clone(),
            message: innermost(&e) + &proxy::hint(&self.base).unwrap_or_default(),
        };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            value.to_str().ok()
        };
        let retry_after = header("retry-after").and_then(|seconds| seconds.parse().ok());
        let replayed = header("idempotent-replayed") == Some("true");
        let text = response.text().await.map_err(unreachable)?;
        Ok(RawAnswer {
            status,
            retry_after: retry_after.map(Duration::from_secs),
            replayed,
            text,
        })
    }
}

/// The error for an answer that is no success.
pub fn failure(status: StatusCode, retry_after: Option<Duration>, problem: &Value) -> ApiError {
    let text = |key: &str| problem.get(key).and_then(Value::as_str).map(str::to_owned);
    let code = text("code").unwrap_or_else(|| "-".to_owned());
    let mut message = text("detail")
        .or_else(|| text("title"))
        .unwrap_or_else(|| "no further word".to_owned());
    let violations = ["violations", "errors"]
        .iter()
        .find_map(|key| problem.get(key)?.as_array());
    for violation in violations.into_iter().flatten().take(10) {
        let part = |key: &str| super::output::field(violation, key);
        message.push_str(&format!("\n  {}: {}", part("field"), part("message")));
    }
    if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
        ApiError::Refused {
            status,
            code,
            message,
        }
    } else {
        ApiError::Unavailable {
            status,
            code,
            message,
            retry_after,
        }
    }
}

/// The innermost cause: reqwest's own text names the URL and not the cause.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// `text`, escaped as one component of a path.
pub fn component(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn a_token_goes_only_to_a_service_that_was_named() {
        let dir = tempfile::tempdir().unwrap();
        let nobody = Address::default();
        let base = nobody.connect(dir.path()).unwrap();
        assert_eq!(base.base(), "http://127.0.0.1:8000");
        let file = dir.path().join("token");
        std::fs::write(&file, "hunter2\n").unwrap();
        let with_token = Address {
            token_file: Some(file),
            ..Address::default()
        };
        let refused = with_token.connect(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("--url"), "{refused}");
        let named = Address {
            url: Some("http://oms.example".into()),
            ..with_token.clone()
        };
        let named = named.connect(dir.path()).unwrap();
        assert_eq!(named.token.unwrap(), "hunter2");
        let endpoints = Endpoints {
            pid: 1,
            http: "http://127.0.0.1:4711".into(),
            admin: None,
            s3: None,
            postgres: None,
            kafka: None,
        };
        endpoints.write(dir.path()).unwrap();
        let found = with_token.connect(dir.path()).unwrap();
        assert_eq!(found.base(), "http://127.0.0.1:4711");
    }

    /// Serves one canned answer on a real socket and gives back what was asked.
    async fn answered(head: &str, body: &str) -> (Result<Answer, ApiError>, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let response = format!(
            "HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let server = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let n = socket.read(&mut request).await.unwrap();
            socket.write_all(response.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&request[..n]).into_owned()
        };
        let api = Api::new(&base, Some("secret".into()), &Certificates::default()).unwrap();
        tokio::join!(api.send(api.request(Method::GET, "/x")), server)
    }

    #[tokio::test]
    async fn answers_become_values_refusals_or_calls_to_try_again() {
        let (answer, request) = answered("200 OK", r#"{"a":1}"#).await;
        assert_eq!(answer.unwrap().body["a"], 1);
        assert!(
            request.contains("authorization: Bearer secret"),
            "{request}"
        );

        let problem = r#"{"code":"class_not_found","detail":"no such class"}"#;
        let (refused, _) = answered("404 Not Found", problem).await;
        let refused = refused.unwrap_err();
        assert!(
            matches!(&refused, ApiError::Refused { code, .. } if code == "class_not_found"),
            "{refused}"
        );

        let (busy, _) = answered("503 Service Unavailable\r\nretry-after: 2", "{}").await;
        let busy = busy.unwrap_err();
        assert!(
            matches!(busy, ApiError::Unavailable { retry_after: Some(d), .. } if d.as_secs() == 2),
            "{busy}"
        );
    }

    #[tokio::test]
    async fn a_service_that_is_not_there_is_named() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let api = Api::new(&base, None, &Certificates::default()).unwrap();
        let error = api.get("/health").await.unwrap_err();
        assert!(matches!(error, ApiError::Unreachable { .. }));
        assert!(error.to_string().contains(&base), "{error}");
    }
}
