//! Gets the keys of the provider whose tokens are taken (OpenID Connect Discovery 1.0, 4; RFC 7517)
//! and gets them again: from time to time, and when a token comes that is signed with another one.
//! While the provider does not answer, the keys that are known stay in use.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use reqwest::{Client, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::config::oidc::provider_url;
use crate::http::Issuer;
use crate::store::io_runtime::IoRuntime;

/// A key that is withdrawn is refused after so long at the latest.
const RENEW_EVERY: Duration = Duration::from_secs(300);

/// Pauses after failures, doubled from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How long the provider may take for an answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The largest of its documents, in bytes: a hundred keys with their certificates.
const MAX_BYTES: usize = 1 << 20;

/// More keys than any provider has.
const MAX_KEYS: usize = 100;

const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Keeps the issuer's keys up to date until it is aborted. `ca`: PEM file of another authority.
pub fn keep(
    io: &IoRuntime,
    issuer: Arc<Issuer>,
    ca: Option<&Path>,
) -> anyhow::Result<JoinHandle<()>> {
    let client = client(ca)?;
    Ok(io.spawn(async move {
        let mut pause = PAUSES.0;
        let mut said = None;
        loop {
            match fetch(&client, issuer.address()).await {
                Ok(keys) => {
                    if said.take().is_some() {
                        tracing::info!(
                            issuer = issuer.address(),
                            "the provider's keys can be got again"
                        );
                    }
                    tracing::debug!(keys = keys.keys.len(), "got the provider's keys");
                    issuer.renew(keys);
                    pause = PAUSES.0;
                    tokio::select! {
                        () = sleep(RENEW_EVERY) => {}
                        () = issuer.keys_wanted() => {}
                    }
                }
                Err(error) => {
                    let why = format!("{error:#}");
                    // Once for each reason, or the log would fill with it.
                    if said.as_ref() != Some(&why) {
                        tracing::warn!(
                            issuer = issuer.address(),
                            "cannot get the keys of the provider that signs tokens: {why}"
                        );
                        said = Some(why);
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }))
}

/// A client that trusts the usual authorities, and that of `ca`.
pub fn client(ca: Option<&Path>) -> anyhow::Result<Client> {
    let mut builder = Client::builder()
        .timeout(ANSWER)
        // Where keys come from is what the configuration says.
        .redirect(reqwest::redirect::Policy::none());
    if let Some(file) = ca {
        let read = || format!("cannot read {}", file.display());
        let pem = std::fs::read(file).with_context(read)?;
        for certificate in reqwest::Certificate::from_pem_bundle(&pem).with_context(read)? {
            builder = builder.add_root_certificate(certificate);
        }
    }
    Ok(builder.build()?)
}

#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<Value>,
}

/// The keys of a provider.
pub async fn fetch(client: &Client, issuer: &str) -> anyhow::Result<JwkSet> {
    let address = format!("{}{DISCOVERY}", issuer.trim_end_matches('/'));
    let discovered: Discovered = document(client, &address).await?;
    // Otherwise one provider could speak for another (Discovery, 4.3).
    ensure!(
        discovered.issuer == issuer,
        "{address} is the document of {:?}, not of {issuer:?}: auth.oidc.issuer must be written exactly so",
        discovered.issuer,
    );
    let uri = discovered.jwks_uri;
    provider_url(&uri).map_err(|why| anyhow::anyhow!("the address of its keys {uri:?} {why}"))?;
    let listed: Keys = document(client, &uri).await?;
    ensure!(
        listed.keys.len() <= MAX_KEYS,
        "{uri} lists {} keys",
        listed.keys.len()
    );
    // Kinds of keys that are not known here are not in use here.
    let known = listed.keys.into_iter();
    let keys: Vec<Jwk> = known
        .filter_map(|key| serde_json::from_value(key).ok())
        .collect();
    ensure!(!keys.is_empty(), "{uri} has no key that can be used");
    Ok(JwkSet { keys })
}

async fn document<T: DeserializeOwned>(client: &Client, address: &str) -> anyhow::Result<T> {
    let url: Url = address.parse().with_context(|| address.to_owned())?;
    let sent = client.get(url).send().await;
    let mut answer = sent.with_context(|| format!("cannot reach {address}"))?;
    let status = answer.status();
    if !status.is_success() {
        bail!("{address} answers {status}");
    }
    let mut body = Vec::new();
    let broken = || format!("{address} broke off");
    while let Some(piece) = answer.chunk().await.with_context(broken)? {
        ensure!(
            body.len() + piece.len() <= MAX_BYTES,
            "{address} answers more than {MAX_BYTES} bytes"
        );
        body.extend_from_slice(&piece);
    }
    serde_json::from_slice(&body).with_context(|| format!("{address} answers something else"))
}
