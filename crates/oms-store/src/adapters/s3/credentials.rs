//! The keys that sign: those configured, or found where the SDKs of AWS find them and renewed before
//! they end.
//!
//! Found in this order: the environment, profiles (`AWS_PROFILE`: keys, SSO), a web identity (EKS),
//! `credential_process` of the profile, the container's endpoint (ECS, EKS Pod Identity), the
//! instance's (IMDSv2). The first that is there decides: when it fails, none of those behind it is
//! asked, whose keys would be somebody else's.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use reqsign_aws_core::{
    AssumeRoleWithWebIdentityCredentialProvider, Credential, ECSCredentialProvider,
    EnvCredentialProvider, IMDSv2CredentialProvider, ProcessCredentialProvider,
    ProfileCredentialProvider, SSOCredentialProvider,
};
use reqsign_core::time::Timestamp;
use reqsign_core::{Context, Env, Error, ProvideCredentialDyn, SigningCredential};
use tokio::time::Instant;

use super::credential_sources::{context, is_instance};
use super::failure::{Failure, shorten};

/// For all that is asked until there are keys, or none.
const SEEK_WITHIN: Duration = Duration::from_secs(40);

/// Between two searches that brought nothing new.
const PAUSE: Duration = Duration::from_secs(5);

/// For so long it counts that the same keys were refused before they were found again.
const REMEMBERED: Duration = Duration::from_secs(60);

type Provider = Box<dyn ProvideCredentialDyn<Credential = Credential>>;

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

    /// The server refused these keys. Whether others can be sought, which the next request does: not
    /// if the same were found again and refused again.
    pub fn refused(&self, keys: &Arc<Keys>) -> bool {
        match self {
            Self::Fixed(_) => false,
            Self::Sought(sought) => sought.refused(keys),
        }
    }
}

/// Keys that were found, until they end.
pub(super) struct Sought {
    context: Context,
    providers: Vec<Provider>,
    known: RwLock<Option<Known>>,
    /// One asks, the others wait for what it finds.
    asking: tokio::sync::Mutex<Option<Fruitless>>,
    refused: Mutex<Option<Refused>>,
    pause: Duration,
}

#[derive(Clone)]
struct Known {
    keys: Arc<Keys>,
    found: Credential,
}

/// The keys that the server refused last.
struct Refused {
    keys: Arc<Keys>,
    /// Whether they had been refused before, and were found again.
    again: bool,
    at: Instant,
}

/// A search that brought nothing that lasts.
struct Fruitless {
    at: Instant,
    why: Why,
}

#[derive(Clone)]
struct Why {
    message: String,
    transient: bool,
}

impl Sought {
    /// Seeks in an environment; `region` is where web identities are exchanged if that names none.
    /// `others`: whom requests for keys trust, other than those to this machine and its link.
    pub fn new(
        environment: impl Env,
        region: &str,
        others: rustls::ClientConfig,
    ) -> reqwest::Result<Self> {
        let context = context(environment, others)?;
        let mut web_identity = AssumeRoleWithWebIdentityCredentialProvider::default();
        if context.env_var("AWS_REGION").is_none() {
            web_identity = web_identity.with_region(region.to_owned());
        }
        let mut providers: Vec<Provider> = vec![
            Box::new(EnvCredentialProvider::new()),
            Box::new(ProfileCredentialProvider::default()),
            Box::new(SSOCredentialProvider::default()),
            Box::new(web_identity.with_regional_sts_endpoint()),
            Box::new(ProcessCredentialProvider::default()),
            Box::new(ECSCredentialProvider::default()),
        ];
        if is_instance(&context) {
            providers.push(Box::new(IMDSv2CredentialProvider::default()));
        }
        Ok(Self {
            context,
            providers,
            known: RwLock::new(None),
            asking: tokio::sync::Mutex::new(None),
            refused: Mutex::new(None),
            pause: PAUSE,
        })
    }

    async fn keys(&self) -> Result<Arc<Keys>, Failure> {
        if let Some(fresh) = self.known(Credential::is_valid) {
            return Ok(fresh);
        }
        let good_now = |found: &Credential| found.is_valid_at(Timestamp::now());
        let mut fruitless = match self.known(good_now) {
            None => self.asking.lock().await,
            // While the old ones last nobody waits but the one who asks.
            Some(old) => match self.asking.try_lock() {
                Ok(asking) => asking,
                Err(_) => return Ok(old),
            },
        };
        if let Some(fresh) = self.known(Credential::is_valid) {
            return Ok(fresh);
        }
        let old = self.known(good_now);
        if let Some(last) = &*fruitless
            && last.at.elapsed() < self.pause
        {
            return old.ok_or_else(|| last.why.clone().into());
        }
        let why = match self.seek().await {
            Ok(found) if good_now(&found) => {
                let keys = self.keep(&found);
                *fruitless = (!found.is_valid()).then(|| Fruitless {
                    at: Instant::now(),
                    why: Why {
                        message: "the credentials that were found end now".to_owned(),
                        transient: true,
                    },
                });
                return Ok(keys);
            }
            Ok(_) => Why {
                message: "the credentials that were found have ended".to_owned(),
                transient: true,
            },
            Err(why) => why,
        };
        *fruitless = Some(Fruitless {
            at: Instant::now(),
            why: why.clone(),
        });
        match old {
            Some(old) => {
                tracing::warn!(
                    error = why.message,
                    "the credentials of S3 end soon and are not renewed"
                );
                Ok(old)
            }
            None => Err(why.into()),
        }
    }

    /// The keys that are known, if they are good enough.
    fn known(&self, good: impl Fn(&Credential) -> bool) -> Option<Arc<Keys>> {
        let known = self.known.read();
        let known = known.as_ref().filter(|known| good(&known.found))?;
        Some(known.keys.clone())
    }

    fn keep(&self, found: &Credential) -> Arc<Keys> {
        let keys = Arc::new(Keys {
            access_key: found.access_key_id.clone(),
            secret_key: found.secret_access_key.clone(),
            session_token: found.session_token.clone(),
        });
        *self.known.write() = Some(Known {
            keys: keys.clone(),
            found: found.clone(),
        });
        keys
    }

    fn refused(&self, keys: &Arc<Keys>) -> bool {
        let mut last = self.refused.lock();
        let (again, soon) = match &*last {
            None => (false, false),
            Some(last) => {
                let since = last.at.elapsed();
                let again = match Arc::ptr_eq(&last.keys, keys) {
                    // Many requests may have been under way with the same keys.
                    true => last.again,
                    false => last.keys.access_key == keys.access_key && since < REMEMBERED,
                };
                (again, again && since < self.pause)
            }
        };
        if !soon {
            let mut known = self.known.write();
            if known.as_ref().is_some_and(|k| Arc::ptr_eq(&k.keys, keys)) {
                *known = None;
            }
            *last = Some(Refused {
                keys: keys.clone(),
                again,
                at: Instant::now(),
            });
        }
        !again
    }

    /// Asks one after the other, up to the first that is there.
    async fn seek(&self) -> Result<Credential, Why> {
        let search = async {
            for provider in &self.providers {
                match provider.provide_credential_dyn(&self.context).await {
                    Ok(Some(found)) => return Ok(found),
                    Ok(None) => {}
                    Err(error) => {
                        return Err(Why {
                            message: format!("no credentials: {}", told(&error)),
                            transient: is_transient(&error),
                        });
                    }
                }
            }
            Err(Why {
                message:
                    "no credentials: none are configured (s3.access_key), and none were found in \
                          the environment, a profile, or from a container or instance of AWS"
                        .to_owned(),
                transient: false,
            })
        };
        let late = Why {
            message: "no credentials: where they come from does not answer".to_owned(),
            transient: true,
        };
        let sought = tokio::time::timeout(SEEK_WITHIN, search).await;
        sought.unwrap_or(Err(late))
    }
}

impl From<Why> for Failure {
    fn from(why: Why) -> Self {
        Self::Credentials {
            message: why.message,
            transient: why.transient,
        }
    }
}

/// Whether asking again may help: the innermost cause decides, since those around it only say where it
/// was met.
fn is_transient(error: &Error) -> bool {
    let mut transient = false;
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<reqwest::Error>() || error.is::<tokio::time::error::Elapsed>() {
            return true;
        }
        if let Some(error) = error.downcast_ref::<Error>() {
            transient = error.is_retryable();
        }
        cause = error.source();
    }
    transient
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
    shorten(&mut text);
    text
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
