//! The provider whose tokens are taken: its keys, which `boot` gets and renews, and the tokens that
//! were found good, so that a signature is checked once and not with every request.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use parking_lot::{Mutex, RwLock};
use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::jwt::{self, Claimed, Expected, Rejected};
use super::signatures;

/// Tokens that are remembered; each takes its principal, of at most 400 bytes, and shares its key.
const REMEMBERED: usize = 8_192;

/// Keys this young are believed to be all: whoever makes up tokens with other ones must not have the
/// provider asked with each.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Why a token is not taken now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// For this reason; repeating it is in vain.
    Invalid(String),
    /// The provider's keys are being got: it may be good.
    KeysAwaited,
}

#[derive(Debug)]
pub struct Issuer {
    expected: Expected,
    keys: RwLock<Option<Arc<[Arc<Jwk>]>>>,
    /// By the token's hash. A token that is refused is not remembered: those are free to make.
    good: Cache<[u8; 32], Arc<Claimed>>,
    /// When the provider was asked for the keys that are known.
    asked: Mutex<Option<Instant>>,
    wanted: Notify,
}

impl Issuer {
    /// A provider whose keys are not known yet.
    pub fn new(expected: Expected) -> Self {
        signatures::install();
        Self {
            expected,
            keys: RwLock::default(),
            good: Cache::new(REMEMBERED),
            asked: Mutex::default(),
            wanted: Notify::new(),
        }
    }

    /// Whom a token is about.
    pub fn check(&self, token: &str, now: Timestamp) -> Result<Arc<Claimed>, Refused> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        if let Some(known) = self.good.get(&hash)
            && now < known.expires
        {
            return Ok(known);
        }
        let Some(keys) = self.keys.read().clone() else {
            return Err(self.awaited(token));
        };
        match jwt::read(token, &keys, &self.expected, now) {
            Ok(claimed) => {
                let claimed = Arc::new(claimed);
                // Under the lock: keys that are withdrawn meanwhile take with them what they signed.
                let current = self.keys.read();
                if current.as_ref().is_some_and(|now| Arc::ptr_eq(now, &keys)) {
                    self.good.insert(hash, claimed.clone());
                }
                Ok(claimed)
            }
            Err(Rejected::Invalid(why)) => Err(Refused::Invalid(why)),
            Err(Rejected::UnknownKey) => {
                let asked = *self.asked.lock();
                if asked.is_some_and(|asked| asked.elapsed() < LOOK_AGAIN_AFTER) {
                    return Err(Refused::Invalid(
                        "it is signed with a key that the provider does not have".into(),
                    ));
                }
                self.wanted.notify_one();
                Err(self.awaited(token))
            }
        }
    }

    /// What a token is told whose key may be among those that are being got.
    fn awaited(&self, token: &str) -> Refused {
        match jwt::claims_to_be_ours(token, &self.expected) {
            Err(Rejected::Invalid(why)) => Refused::Invalid(why),
            Ok(()) | Err(Rejected::UnknownKey) => Refused::KeysAwaited,
        }
    }

    /// Whether the provider still has this key.
    pub fn has(&self, key: &Jwk) -> bool {
        let keys = self.keys.read();
        keys.as_ref()
            .is_some_and(|keys| keys.iter().any(|known| **known == *key))
    }

    /// The keys that the provider had when it was `asked`; tokens are checked again if they are
    /// others.
    pub fn renew(&self, keys: JwkSet, asked: Instant) {
        *self.asked.lock() = Some(asked);
        let keys: Arc<[Arc<Jwk>]> = keys.keys.into_iter().map(Arc::new).collect();
        let mut current = self.keys.write();
        if current.as_ref() == Some(&keys) {
            return;
        }
        *current = Some(keys);
        self.good.clear();
    }

    /// Waits until a token needs keys that are not known.
    pub async fn keys_wanted(&self) {
        self.wanted.notified().await;
    }

    /// The address of the provider.
    pub fn address(&self) -> &str {
        &self.expected.issuer
    }
}

#[cfg(test)]
mod tests {
    use oms_testkit::provider::SigningKey;
    use serde_json::{Value, json};

    use super::*;

    fn issuer() -> Issuer {
        Issuer::new(Expected {
            issuer: "https://login.example".into(),
            audience: vec!["oms".into()],
            principal_claim: "sub".into(),
            principal_prefix: "oidc:",
            roles_claim: "roles".into(),
            read: vec!["reader".into()],
            write: vec![],
            admin: vec![],
            skew_seconds: 0,
        })
    }

    fn set(keys: &[&SigningKey]) -> JwkSet {
        let keys: Vec<Value> = keys.iter().map(|key| key.public()).collect();
        serde_json::from_value(json!({ "keys": keys })).unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn token(key: &SigningKey) -> String {
        key.token(&json!({
            "iss": "https://login.example", "aud": "oms", "sub": "a", "exp": 1_000, "roles": "reader",
        }))
    }

    #[tokio::test]
    async fn law_13_a_token_that_was_found_good_is_believed_until_it_ends_or_its_key_is_withdrawn()
    {
        let (issuer, key) = (issuer(), SigningKey::new("k"));
        let token = token(&key);
        assert_eq!(issuer.check(&token, at(1)), Err(Refused::KeysAwaited));
        issuer.renew(set(&[&key]), Instant::now());
        let first = issuer.check(&token, at(1)).unwrap();
        let again = issuer.check(&token, at(999)).unwrap();
        assert!(Arc::ptr_eq(&first, &again), "it is not checked once more");
        assert!(matches!(
            issuer.check(&token, at(1_000)),
            Err(Refused::Invalid(_))
        ));
        // The same keys change nothing; others do.
        issuer.renew(set(&[&key]), Instant::now());
        assert!(Arc::ptr_eq(&first, &issuer.check(&token, at(1)).unwrap()));
        assert!(issuer.has(&first.key));
        issuer.renew(set(&[&SigningKey::new("other")]), Instant::now());
        assert!(matches!(
            issuer.check(&token, at(1)),
            Err(Refused::Invalid(_))
        ));
        assert!(!issuer.has(&first.key));
    }

    #[tokio::test(start_paused = true)]
    async fn law_13_a_key_that_is_not_known_is_waited_for_unless_the_provider_was_asked_just_now() {
        let (issuer, newer) = (issuer(), SigningKey::new("newer"));
        issuer.renew(set(&[&SigningKey::new("k")]), Instant::now());
        let token = token(&newer);
        assert!(matches!(
            issuer.check(&token, at(1)),
            Err(Refused::Invalid(_))
        ));
        tokio::time::advance(LOOK_AGAIN_AFTER).await;
        // Whoever comes while they are being got is told the same, and so is who comes again.
        for _ in 0..3 {
            assert_eq!(issuer.check(&token, at(1)), Err(Refused::KeysAwaited));
        }
        issuer.keys_wanted().await;
        // What is not the provider's at all does not wait.
        let claims = json!({"iss": "https://evil.example", "aud": "oms", "sub": "a", "exp": 1_000});
        let other = newer.token(&claims);
        assert!(matches!(
            issuer.check(&other, at(1)),
            Err(Refused::Invalid(_))
        ));
        issuer.renew(set(&[&newer]), Instant::now());
        assert!(issuer.check(&token, at(1)).is_ok());
    }
}
