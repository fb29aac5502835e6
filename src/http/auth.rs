//! Authentication. Configured tokens are known by their SHA-256 only and compared in constant time;
//! each has a name, which is the principal of every event it causes, and roles. Beside them stand
//! tokens that an OpenID Connect provider signed ([`issuer`], [`jwt`], [`signatures`]). Without either
//! every caller is `anonymous` and has every role: the configuration then allows loopback addresses
//! only, and [`super::same_site`] rejects requests of web pages.

pub mod issuer;
pub mod jwt;
pub mod roles;
mod signatures;

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use jiff::Timestamp;
use jsonwebtoken::jwk::Jwk;
use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

pub use self::roles::{Access, Roles};

use self::issuer::{Issuer, Refused};
use super::problem::{self, Problem};
use crate::clock;

/// Longest token that is looked at, because callers without a token must not choose how much work
/// that is. Providers' tokens have a kilobyte or two, those with two hundred groups twelve.
const MAX_TOKEN_BYTES: usize = 16 << 10;

/// The principal of requests when no tokens are configured.
pub const ANONYMOUS: &str = "anonymous";

/// By then the provider's keys should be there.
const KEYS_AWAITED: Duration = Duration::from_secs(1);

/// A configured token.
#[derive(Debug, Clone)]
pub struct Token {
    /// The principal's name, as recorded in events.
    pub name: Arc<str>,
    /// SHA-256 of the token.
    pub sha256: [u8; 32],
    /// Its roles.
    pub roles: Roles,
    /// When it ends.
    pub expires: Option<Timestamp>,
}

impl Token {
    /// A token from its text, which is not kept.
    pub fn from_secret(name: &str, secret: &str, roles: Roles) -> Self {
        Self {
            name: name.into(),
            sha256: Sha256::digest(secret.as_bytes()).into(),
            roles,
            expires: None,
        }
    }
}

/// Who somebody is, and for how long that is believed.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Recorded with everything that is done.
    pub principal: Arc<str>,
    pub roles: Roles,
    /// When the token ends.
    pub expires: Option<Timestamp>,
    by: By,
}

/// What somebody is known by.
#[derive(Debug, Clone)]
enum By {
    /// Nobody has to be known.
    Nothing,
    /// The configured token of this hash.
    Token([u8; 32]),
    /// A token that is signed with this key of the provider.
    Key(Arc<Jwk>),
}

#[derive(Debug)]
pub struct Authenticator {
    tokens: RwLock<Arc<[Token]>>,
    /// Whether callers need a token. Fixed: a file whose last token was taken out opens nothing.
    required: bool,
    issuer: Option<Arc<Issuer>>,
    anonymous: Arc<str>,
}

impl Authenticator {
    /// An authenticator for these tokens; without any, every caller is anonymous with every role.
    pub fn new(tokens: Vec<Token>) -> Self {
        Self {
            required: !tokens.is_empty(),
            tokens: RwLock::new(tokens.into()),
            issuer: None,
            anonymous: ANONYMOUS.into(),
        }
    }

    /// [`Self::new`], with the tokens of a provider taken too.
    pub fn with_issuer(mut self, issuer: Option<Arc<Issuer>>) -> Self {
        self.required |= issuer.is_some();
        self.issuer = issuer;
        self
    }

    /// [`Self::new`], where callers need a token even while none is known.
    pub fn with_required(mut self, required: bool) -> Self {
        self.required |= required;
        self
    }

    /// These are the configured tokens from now on.
    pub fn replace_tokens(&self, tokens: Vec<Token>) {
        *self.tokens.write() = tokens.into();
    }

    /// Whether who was let in once would be let in now with the same roles: the token has neither
    /// ended nor been taken out or changed, nor was the key withdrawn that signed it.
    pub fn still_knows(&self, identity: &Identity) -> bool {
        let now = clock::now();
        let has_ended = |ends: Option<Timestamp>| ends.is_some_and(|ends| ends <= now);
        let known = match &identity.by {
            By::Nothing => true,
            By::Token(hash) => self.tokens.read().iter().any(|token| {
                token.sha256 == *hash && token.roles == identity.roles && !has_ended(token.expires)
            }),
            By::Key(key) => self.issuer.as_ref().is_some_and(|issuer| issuer.has(key)),
        };
        known && !has_ended(identity.expires)
    }

    /// Whether callers need a token; otherwise every caller may do everything.
    pub fn needs_token(&self) -> bool {
        self.required
    }

    /// Who asks on a route with `access`: 401 without a valid token, 403 without the role.
    pub fn check(&self, headers: &HeaderMap, access: Access) -> Result<Identity, Problem> {
        if access == Access::Public || !self.needs_token() {
            return Ok(Identity {
                principal: self.anonymous.clone(),
                roles: if self.required {
                    Roles::default()
                } else {
                    Roles::ALL
                },
                expires: None,
                by: By::Nothing,
            });
        }
        let identity = self.authenticate(headers)?;
        if identity.roles.allow(access) {
            return Ok(identity);
        }
        let role = access.role();
        Err(Problem::new(
            problem::FORBIDDEN,
            format!("{:?} does not have the role {role:?}", identity.principal),
        )
        .subject(role)
        .with_header(
            WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"oms\", error=\"insufficient_scope\""),
        ))
    }

    /// The principal of a token, if it is known; to record who was refused.
    pub fn recognise(&self, headers: &HeaderMap) -> Option<Arc<str>> {
        if !self.needs_token() {
            return Some(self.anonymous.clone());
        }
        self.authenticate(headers).ok().map(|id| id.principal)
    }

    fn authenticate(&self, headers: &HeaderMap) -> Result<Identity, Problem> {
        let mut given = headers.get_all(AUTHORIZATION);
        let Some(first) = given.next() else {
            return Err(unauthenticated("there is no Authorization header", false));
        };
        if given.next().is_some() {
            let detail = "there are several Authorization headers";
            return Err(unauthenticated(detail, true));
        }
        let Some(secret) = bearer(first) else {
            let detail = "the Authorization header must be Bearer and a token";
            return Err(unauthenticated(detail, true));
        };
        if secret.len() > MAX_TOKEN_BYTES {
            let detail = format!("the token has more than {MAX_TOKEN_BYTES} bytes");
            return Err(unauthenticated(&detail, true));
        }
        let now = clock::now();
        let known = self.tokens.read().clone();
        match configured(&known, secret) {
            Some(token) if token.expires.is_some_and(|ends| ends <= now) => {
                Err(unauthenticated("the token has expired", true))
            }
            Some(token) => Ok(Identity {
                principal: token.name.clone(),
                roles: token.roles,
                expires: token.expires,
                by: By::Token(token.sha256),
            }),
            None => self.signed(secret, now),
        }
    }

    /// Who has a token that the provider signed.
    fn signed(&self, secret: &[u8], now: Timestamp) -> Result<Identity, Problem> {
        let text = std::str::from_utf8(secret).ok();
        let text = text.filter(|text| jwt::looks_like_one(text));
        let (Some(issuer), Some(token)) = (&self.issuer, text) else {
            return Err(unauthenticated("the token is not known", true));
        };
        match issuer.check(token, now) {
            Ok(claimed) => Ok(Identity {
                principal: claimed.principal.clone(),
                roles: claimed.roles,
                expires: Some(claimed.expires),
                by: By::Key(claimed.key.clone()),
            }),
            Err(Refused::Invalid(why)) => {
                let detail = format!("the token is not taken: {why}");
                Err(unauthenticated(&detail, true))
            }
            Err(Refused::KeysAwaited) => {
                let detail = "the keys of the provider that signed the token are being fetched; nothing was done";
                let problem = Problem::new(problem::UNAVAILABLE, detail).subject("oidc");
                Err(problem.retry_after(KEYS_AWAITED))
            }
        }
    }
}

/// The token among these that was given.
fn configured<'a>(tokens: &'a [Token], secret: &[u8]) -> Option<&'a Token> {
    let digest: [u8; 32] = Sha256::digest(secret).into();
    // All tokens are compared whichever matches, so that the time reveals nothing.
    let mut found = None;
    for token in tokens {
        if bool::from(token.sha256.ct_eq(&digest)) {
            found = Some(token);
        }
    }
    found
}

fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

fn unauthenticated(detail: &str, given: bool) -> Problem {
    let challenge = if given {
        "Bearer realm=\"oms\", error=\"invalid_token\""
    } else {
        "Bearer realm=\"oms\""
    };
    Problem::new(problem::UNAUTHENTICATED, detail)
        .with_header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn the_table_of_who_may_what() {
        let roles = |read, write, admin| Roles { read, write, admin };
        let auth = Authenticator::new(vec![
            Token::from_secret("reader", "r", roles(true, false, false)),
            Token::from_secret("writer", "w", roles(false, true, false)),
            Token::from_secret("root", "a", Roles::ALL),
        ]);
        let code = |given: &[&str], access| match auth.check(&headers(given), access) {
            Ok(who) => who.principal.to_string(),
            Err(problem) => problem.code().to_owned(),
        };
        use Access::{Admin, Public, Read, Write};
        let table: &[(&[&str], Access, &str)] = &[
            (&[], Public, "anonymous"),
            (&["Bearer nonsense"], Public, "anonymous"),
            (&[], Read, "unauthenticated"),
            (&["Bearer x"], Read, "unauthenticated"),
            (&["Basic r"], Read, "unauthenticated"),
            (&["Bearer "], Read, "unauthenticated"),
            (&["Bearer"], Read, "unauthenticated"),
            (&["Bearer r", "Bearer a"], Read, "unauthenticated"),
            (&["Bearer r"], Read, "reader"),
            (&["bearer r"], Read, "reader"),
            (&["Bearer r"], Write, "forbidden"),
            (&["Bearer r"], Admin, "forbidden"),
            (&["Bearer w"], Write, "writer"),
            (&["Bearer w"], Read, "forbidden"),
            (&["Bearer a"], Read, "root"),
            (&["Bearer a"], Write, "root"),
            (&["Bearer a"], Admin, "root"),
        ];
        for (given, access, expected) in table {
            assert_eq!(code(given, *access), *expected, "{given:?} {access:?}");
        }
        let long = format!("Bearer {}", "x".repeat(MAX_TOKEN_BYTES + 1));
        assert_eq!(code(&[&long], Read), "unauthenticated");
    }

    #[test]
    fn without_tokens_everybody_is_anonymous_and_may_do_everything() {
        let auth = Authenticator::new(vec![]);
        for access in [Access::Read, Access::Write, Access::Admin] {
            let principal = auth.check(&headers(&["Bearer x"]), access).unwrap();
            assert_eq!(&*principal.principal, ANONYMOUS);
        }
    }

    #[test]
    fn tokens_are_kept_hashed() {
        let token = Token::from_secret("n", "very secret", Roles::ALL);
        assert!(!format!("{token:?}").contains("very secret"));
    }
}
