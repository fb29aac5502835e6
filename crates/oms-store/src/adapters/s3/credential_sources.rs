//! With what credentials are sought: the environment, files, requests and programs, each bounded.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqsign_core::{
    CommandExecute, CommandOutput, Context, Env, Error, FileRead, HttpSend, Result as Found,
};
use reqwest::redirect::Policy;

use crate::adapters::proxy;

/// For one request to where keys are handed out: they are near, or not there at all.
const ASK_WITHIN: Duration = Duration::from_secs(5);

/// For a program that a profile names: it may ask a server far away.
const RUN_WITHIN: Duration = Duration::from_secs(30);

/// Of an answer with keys, so many bytes are read.
const ANSWER_BYTES: usize = 1 << 20;

/// What seeks in `environment`. `others`: whom requests for keys trust, other than those to this
/// machine and its link.
pub(super) fn context(
    environment: impl Env,
    others: rustls::ClientConfig,
) -> reqwest::Result<Context> {
    let plain = || reqwest::Client::builder().redirect(Policy::none());
    Ok(Context::new()
        .with_file_read(Files)
        .with_http_send(Http {
            near: plain().no_proxy().build()?,
            far: plain().use_preconfigured_tls(others).build()?,
        })
        .with_command_execute(Programs)
        .with_env(Filled(environment)))
}

/// Whether this is a machine of EC2, or one that is said to be like it: elsewhere there is nobody to
/// ask, which would only be noticed after a while.
pub(super) fn is_instance(context: &Context) -> bool {
    let says = |path: &str, word: &str| {
        std::fs::read_to_string(path).is_ok_and(|text| text.trim().starts_with(word))
    };
    context
        .env_var("AWS_EC2_METADATA_SERVICE_ENDPOINT")
        .is_some()
        || says("/sys/class/dmi/id/sys_vendor", "Amazon EC2")
        || says("/sys/class/dmi/id/board_vendor", "Amazon EC2")
        || says("/sys/hypervisor/uuid", "ec2")
}

/// An environment in which what is empty is not set.
#[derive(Debug)]
struct Filled<E>(E);

impl<E: Env> Env for Filled<E> {
    fn var(&self, key: &str) -> Option<String> {
        self.0.var(key).filter(|value| !value.is_empty())
    }

    fn vars(&self) -> HashMap<String, String> {
        let mut all = self.0.vars();
        all.retain(|_, value| !value.is_empty());
        all
    }

    fn home_dir(&self) -> Option<PathBuf> {
        self.0.home_dir()
    }
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
    near: reqwest::Client,
    far: reqwest::Client,
}

impl HttpSend for Http {
    async fn http_send(&self, request: http::Request<Bytes>) -> Found<http::Response<Bytes>> {
        let url = request.uri().to_string();
        let client = match proxy::is_loopback(&url) || proxy::is_link_local(&url) {
            true => &self.near,
            false if request.uri().scheme_str() == Some("https") => &self.far,
            false => {
                return Err(Error::config_invalid(
                    "credentials are asked for without TLS of this machine and its link alone",
                ));
            }
        };
        // The body may hold a token: nothing of it is told.
        let failed = |e: reqwest::Error| {
            Error::unexpected("where credentials are handed out does not answer")
                .with_source(e.without_url())
                .set_retryable(true)
        };
        let mut request = reqwest::Request::try_from(request).map_err(failed)?;
        *request.timeout_mut() = Some(ASK_WITHIN);
        let mut answer = client.execute(request).await.map_err(failed)?;
        let mut response = http::Response::new(Bytes::new());
        *response.status_mut() = answer.status();
        *response.headers_mut() = answer.headers().clone();
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_BYTES {
                return Err(Error::unexpected("an answer with credentials is too long"));
            }
        }
        *response.body_mut() = body.freeze();
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
            // It may hold a secret, and would be told.
            stderr: Vec::new(),
        })
    }
}
