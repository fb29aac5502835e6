//! The keys that sign: those configured, or found where the SDKs of AWS find them and renewed before
//! they end.
//!
//! Found in this order: the environment, profiles (`AWS_PROFILE`, keys, SSO, `credential_process`),
//! a web identity (EKS), the container's endpoint (ECS, EKS Pod Identity), the instance's (IMDSv2).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;
use reqsign_aws_core::{
    AssumeRoleWithWebIdentityCredentialProvider, Credential, DefaultCredentialProvider,
};
use reqsign_core::time::Timestamp;
use reqsign_core::{
    CommandExecute, CommandOutput, Context, Env, Error, FileRead, HttpSend, ProvideCredential,
    Result as Found, SigningCredential,
};

use super::failure::Failure;
use crate::adapters::proxy;

/// For one request to where keys are handed out: they are near, or not there at all.
const ASK_WITHIN: Duration = Duration::from_secs(5);

/// For a program that a profile names: it may ask a server far away.
const RUN_WITHIN: Duration = Duration::from_secs(30);

/// What signs a request.
pub(super) struct Keys {
    pub access_key: String,
    pub secret_key: String,
    /// Of temporary keys.
    pub session_token: Option<String>,
}

/// Where the keys come from.
pub(super) enum Credentials {
    /// The configuration.
    Fixed(Arc<Keys>),
    /// Wherever they are found.
    Sought(Box<Sought>),
}

impl Credentials {
    pub fn fixed(access_key: &str, secret_key: &str, session_token: Option<&str>) -> Self {
        Self::Fixed(Arc::new(Keys {
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
            session_token: session_token.map(str::to_owned),
        }))
    }

    /// Keys that are good for the next two minutes at least, if such can be had.
    pub async fn keys(&self) -> Result<Arc<Keys>, Failure> {
        match self {
            Self::Fixed(keys) => Ok(keys.clone()),
            Self::Sought(sought) => sought.keys().await,
        }
    }

    /// The server refused these keys: others are sought at the next request.
    pub fn refused(&self, keys: &Arc<Keys>) {
        if let Self::Sought(sought) = self {
            let mut known = sought.known.write();
            if known.as_ref().is_some_and(|k| Arc::ptr_eq(&k.keys, keys)) {
                *known = None;
            }
        }
    }
}

/// Keys that were found, until they end.
pub(super) struct Sought {
    context: Context,
    provider: DefaultCredentialProvider,
    known: RwLock<Option<Known>>,
    /// One asks, the others wait for what it finds.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Known {
    keys: Arc<Keys>,
    found: Credential,
}

impl Sought {
    /// Seeks in an environment; `region` is where web identities are exchanged if that names none.
    pub fn new(environment: impl Env, region: &str, http: reqwest::Client) -> Self {
        let context = Context::new()
            .with_file_read(Files)
            .with_http_send(Http {
                near: reqwest::Client::builder().no_proxy().build().ok(),
                far: http,
            })
            .with_command_execute(Programs);
        let mut web_identity = AssumeRoleWithWebIdentityCredentialProvider::default();
        if environment.var("AWS_REGION").is_none() {
            web_identity = web_identity.with_region(region.to_owned());
        }
        Self {
            context: context.with_env(environment),
            provider: DefaultCredentialProvider::builder()
                .web_identity(web_identity)
                .build(),
            known: RwLock::new(None),
            asking: tokio::sync::Mutex::new(()),
        }
    }

    async fn keys(&self) -> Result<Arc<Keys>, Failure> {
        if let Some(fresh) = self.fresh() {
            return Ok(fresh);
        }
        let _asking = self.asking.lock().await;
        if let Some(fresh) = self.fresh() {
            return Ok(fresh);
        }
        let old = self.known.read().clone();
        let usable = old.filter(|old| old.found.is_valid_at(Timestamp::now()));
        match (
            self.provider.provide_credential(&self.context).await,
            usable,
        ) {
            (Ok(Some(found)), _) => {
                let keys = Arc::new(Keys {
                    access_key: found.access_key_id.clone(),
                    secret_key: found.secret_access_key.clone(),
                    session_token: found.session_token.clone(),
                });
                *self.known.write() = Some(Known {
                    keys: keys.clone(),
                    found,
                });
                Ok(keys)
            }
            (Err(error), Some(old)) => {
                tracing::warn!(%error, "credentials of S3 are not renewed yet; the old ones end soon");
                Ok(old.keys)
            }
            (Ok(None), Some(old)) => Ok(old.keys),
            (Err(error), None) => Err(Failure::Credentials {
                message: format!("no credentials: {}", told(&error)),
                transient: error.is_retryable(),
            }),
            (Ok(None), None) => Err(Failure::Credentials {
                message:
                    "no credentials: none are configured (s3.access_key), and none were found in \
                          the environment, a profile, or from the container or instance"
                        .to_owned(),
                transient: false,
            }),
        }
    }

    fn fresh(&self) -> Option<Arc<Keys>> {
        let known = self.known.read();
        let known = known.as_ref().filter(|known| known.found.is_valid())?;
        Some(known.keys.clone())
    }
}

/// The error with its causes.
fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

#[derive(Debug)]
struct Files;

impl FileRead for Files {
    async fn file_read(&self, path: &str) -> Found<Vec<u8>> {
        tokio::fs::read(path)
            .await
            .map_err(|e| Error::unexpected(format!("{path} cannot be read")).with_source(e))
    }
}

/// Requests for keys; those to this machine and its link go through no proxy.
#[derive(Debug)]
struct Http {
    near: Option<reqwest::Client>,
    far: reqwest::Client,
}

impl HttpSend for Http {
    async fn http_send(&self, request: http::Request<Bytes>) -> Found<http::Response<Bytes>> {
        let url = request.uri().to_string();
        let client = match &self.near {
            Some(near) if proxy::is_loopback(&url) || proxy::is_link_local(&url) => near,
            _ => &self.far,
        };
        // The body may hold a token: nothing of it is told.
        let failed = |e: reqwest::Error| {
            Error::unexpected("where credentials are handed out does not answer")
                .with_source(e.without_url())
                .set_retryable(true)
        };
        let mut request = reqwest::Request::try_from(request).map_err(failed)?;
        *request.timeout_mut() = Some(ASK_WITHIN);
        let answer = client.execute(request).await.map_err(failed)?;
        let mut response = http::Response::new(Bytes::new());
        *response.status_mut() = answer.status();
        *response.headers_mut() = answer.headers().clone();
        *response.body_mut() = answer.bytes().await.map_err(failed)?;
        Ok(response)
    }
}

/// Programs that profiles name as `credential_process`.
#[derive(Debug)]
struct Programs;

impl CommandExecute for Programs {
    async fn command_execute<'a>(
        &'a self,
        program: &'a str,
        arguments: &'a [&'a str],
    ) -> Found<CommandOutput> {
        let run = tokio::process::Command::new(program)
            .args(arguments)
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output();
        let failed = || Error::unexpected(format!("the program {program} gives no credentials"));
        let output = tokio::time::timeout(RUN_WITHIN, run)
            .await
            .map_err(|late| failed().with_source(late).set_retryable(true))?
            .map_err(|e| failed().with_source(e))?;
        Ok(CommandOutput {
            status: output.status.code().unwrap_or(-1),
            stdout: output.stdout,
            stderr: output.stderr,
        })
    }
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
