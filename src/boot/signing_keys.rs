//! Gets the keys of the provider whose tokens are taken (OpenID Connect Discovery 1.0, 4; RFC 7517)
//! and gets them again: from time to time, and when a token comes that is signed with another one.
//! While the provider does not answer, the keys that are known stay in use.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet, PublicKeyUse};
use reqwest::Client;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::config::oidc::provider_url;
use crate::http::Issuer;
use crate::store::adapters::proxy;
use crate::store::adapters::tls::{self, TlsFiles};
use crate::store::io_runtime::IoRuntime;

/// A key that is withdrawn is refused after so long, while the provider answers.
const RENEW_EVERY: Duration = Duration::from_secs(300);

/// Pause after a failure. Short, since meanwhile people may be kept waiting.
const PAUSE: Duration = Duration::from_secs(5);

/// How long the provider may take for an answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The largest of its documents, in bytes: a hundred keys with their certificates.
const MAX_BYTES: usize = 1 << 20;

/// More keys than any provider has.
const MAX_KEYS: usize = 100;

const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Keeps the issuer's keys up to date until it is aborted. `ca`: PEM file of another authority.
pub fn keep(io: &IoRuntime, issuer: Arc<Issuer>, ca: Option<PathBuf>) -> JoinHandle<()> {
    io.spawn(async move {
        let mut said = None;
        loop {
            let asked = Instant::now();
            // Trust is read with each attempt: an authority may be replaced while this runs.
            match fetch(issuer.address(), ca.as_deref()).await {
                Ok(keys) => {
                    if said.take().is_some() {
                        tracing::info!(
                            issuer = issuer.address(),
                            "the provider's keys can be got again"
                        );
                    }
                    if keys.keys.is_empty() {
                        tracing::warn!(
                            issuer = issuer.address(),
                            "the provider has no key that signs: none of its tokens is taken"
                        );
                    }
                    issuer.renew(keys, asked);
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
                    sleep(PAUSE).await;
                }
            }
        }
    })
}

/// A client that trusts the system's authorities and that of `ca`.
fn client(address: &str, ca: Option<&Path>) -> anyhow::Result<Client> {
    let files = TlsFiles {
        ca: ca.map(Path::to_owned),
        ..TlsFiles::default()
    };
    let mut builder = Client::builder()
        .timeout(ANSWER)
        // Where keys come from is what the configuration says.
        .redirect(reqwest::redirect::Policy::none())
        .use_preconfigured_tls(tls::client_config_of_others(&files)?);
    if proxy::is_loopback(address) {
        builder = builder.no_proxy();
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

/// The keys of a provider that sign in a way that is taken.
pub async fn fetch(issuer: &str, ca: Option<&Path>) -> anyhow::Result<JwkSet> {
    let address = format!("{}{DISCOVERY}", issuer.trim_end_matches('/'));
    let discovered: Discovered = document(&address, ca).await?;
    // Otherwise one provider could speak for another (Discovery, 4.3).
    if discovered.issuer != issuer {
        let name: String = discovered.issuer.chars().take(200).collect();
        bail!(
            "{address} is the document of {name:?}, not of {issuer:?}: auth.oidc.issuer must be written exactly so"
        );
    }
    let uri = discovered.jwks_uri;
    let checked = provider_url(&uri).map_err(anyhow::Error::msg);
    let checked = checked.with_context(|| format!("the address of its keys, {uri:?}"))?;
    ensure!(
        checked.scheme() == "https" || issuer.starts_with("http:"),
        "the address of its keys, {uri:?}, is not https, as the provider's own is"
    );
    let listed: Keys = document(&uri, ca).await?;
    ensure!(
        listed.keys.len() <= MAX_KEYS,
        "{uri} lists {} keys",
        listed.keys.len()
    );
    // Kinds of keys that are not known here are not in use here.
    let known = listed.keys.into_iter();
    let known = known.filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    let keys = known.filter(may_sign).collect();
    Ok(JwkSet { keys })
}

/// Whether a key is one of a pair, and not for something else than signatures.
fn may_sign(key: &Jwk) -> bool {
    let of_a_pair = matches!(
        key.algorithm,
        AlgorithmParameters::RSA(_)
            | AlgorithmParameters::EllipticCurve(_)
            | AlgorithmParameters::OctetKeyPair(_)
    );
    let other_use = &key.common.public_key_use;
    of_a_pair && !matches!(other_use, Some(other) if *other != PublicKeyUse::Signature)
}

async fn document<T: DeserializeOwned>(address: &str, ca: Option<&Path>) -> anyhow::Result<T> {
    let sent = client(address, ca)?.get(address).send().await;
    let hint = || proxy::hint(address).unwrap_or_default();
    let mut answer = sent.with_context(|| format!("cannot reach {address}{}", hint()))?;
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

#[cfg(test)]
mod tests {
    use oms_testkit::provider::{Provider, SigningKey};

    use super::*;

    #[tokio::test]
    async fn law_13_keys_come_from_the_provider_that_was_named_and_no_other() {
        let key = SigningKey::new("k");
        let provider = Provider::start(&[&key]).await;
        let keys = fetch(&provider.issuer, None).await.unwrap();
        assert_eq!(keys.keys.len(), 1);
        let reason = async |issuer: &str| format!("{:#}", fetch(issuer, None).await.unwrap_err());
        // The same document, but of another name.
        let other = provider.issuer.replace("127.0.0.1", "localhost");
        let why = reason(&other).await;
        assert!(why.contains("must be written exactly so"), "{why}");
        provider.show(&[]);
        let why = reason(&provider.issuer).await;
        assert!(why.contains("503"), "{why}");
        drop(provider);
        let why = reason("http://127.0.0.1:1").await;
        assert!(why.contains("cannot reach"), "{why}");
    }

    #[test]
    fn keys_that_are_secrets_or_encrypt_are_none_that_sign() {
        let may = |key: Value| serde_json::from_value::<Jwk>(key).is_ok_and(|key| may_sign(&key));
        let public = SigningKey::new("k").public();
        assert!(may(public.clone()));
        let mut other = public;
        other["use"] = "enc".into();
        assert!(!may(other));
        for unknown in [
            r#"{"kty":"oct","k":"c2VjcmV0"}"#,
            r#"{"kty":"new","x":"1"}"#,
        ] {
            assert!(!may(serde_json::from_str(unknown).unwrap()), "{unknown}");
        }
    }
}
