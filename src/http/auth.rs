//! Authentication. Tokens are known by their SHA-256 only and compared in constant time; each has a
//! name, which is the principal of every event it causes, and roles. Without configured tokens
//! every caller is `anonymous` and has every role: the configuration then allows loopback addresses
//! only, and [`super::same_site`] rejects requests of web pages.

use std::sync::Arc;

use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::problem::{self, Problem};

/// Longest token that is hashed, because callers without a token must not choose how much work that
/// is.
const MAX_TOKEN_BYTES: usize = 512;

/// The principal of requests when no tokens are configured.
pub const ANONYMOUS: &str = "anonymous";

/// What a route requires of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// No token: health, metrics, the description of the API.
    Public,
    /// A known token, whatever its roles.
    Known,
    /// The role `read`.
    Read,
    /// The role `write`.
    Write,
    /// The role `admin`.
    Admin,
}

impl Access {
    pub fn role(self) -> &'static str {
        match self {
            Access::Public | Access::Known => "",
            Access::Read => "read",
            Access::Write => "write",
            Access::Admin => "admin",
        }
    }
}

/// The roles of a token. None implies another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles {
    pub read: bool,
    pub write: bool,
    pub admin: bool,
}

impl Roles {
    pub const ALL: Roles = Roles {
        read: true,
        write: true,
        admin: true,
    };

    pub fn names(self) -> Vec<&'static str> {
        let all = [Access::Read, Access::Write, Access::Admin];
        let allowed = all.into_iter().filter(|access| self.allow(*access));
        allowed.map(Access::role).collect()
    }

    /// Whether these roles allow the route.
    pub fn allow(self, access: Access) -> bool {
        match access {
            Access::Public | Access::Known => true,
            Access::Read => self.read,
            Access::Write => self.write,
            Access::Admin => self.admin,
        }
    }
}

/// A configured token.
#[derive(Debug, Clone)]
pub struct Token {
    /// The principal's name, as recorded in events.
    pub name: Arc<str>,
    /// SHA-256 of the token.
    pub sha256: [u8; 32],
    /// Its roles.
    pub roles: Roles,
}

impl Token {
    /// A token from its text, which is not kept.
    pub fn from_secret(name: &str, secret: &str, roles: Roles) -> Self {
        Self {
            name: name.into(),
            sha256: Sha256::digest(secret.as_bytes()).into(),
            roles,
        }
    }
}

#[derive(Debug)]
pub struct Authenticator {
    tokens: Vec<Token>,
    anonymous: Arc<str>,
}

impl Authenticator {
    /// An authenticator for these tokens; without any, every caller is anonymous with every role.
    pub fn new(tokens: Vec<Token>) -> Self {
        Self {
            tokens,
            anonymous: ANONYMOUS.into(),
        }
    }

    /// Whether tokens are configured; without them every caller may do everything.
    pub fn knows_tokens(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// The principal of a request to a route with `access`: 401 without a valid token, 403 without
    /// the role.
    pub fn check(&self, headers: &HeaderMap, access: Access) -> Result<Arc<str>, Problem> {
        if access == Access::Public || self.tokens.is_empty() {
            return Ok(self.anonymous.clone());
        }
        let token = self.authenticate(headers)?;
        if token.roles.allow(access) {
            return Ok(token.name.clone());
        }
        let role = access.role();
        Err(Problem::new(
            problem::FORBIDDEN,
            format!("{:?} does not have the role {role:?}", token.name),
        )
        .subject(role)
        .with_header(
            WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"oms\", error=\"insufficient_scope\""),
        ))
    }

    /// The roles of a request that was allowed.
    pub fn roles(&self, headers: &HeaderMap) -> Result<Roles, Problem> {
        if self.tokens.is_empty() {
            return Ok(Roles::ALL);
        }
        Ok(self.authenticate(headers)?.roles)
    }

    /// The principal of a token, if it is known; to record who was refused.
    pub fn recognise(&self, headers: &HeaderMap) -> Option<Arc<str>> {
        if self.tokens.is_empty() {
            return Some(self.anonymous.clone());
        }
        self.authenticate(headers).ok().map(|t| t.name.clone())
    }

    fn authenticate(&self, headers: &HeaderMap) -> Result<&Token, Problem> {
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
        let digest: [u8; 32] = Sha256::digest(secret).into();
        // All tokens are compared whichever matches, so that the time reveals nothing.
        let mut found = None;
        for token in &self.tokens {
            if bool::from(token.sha256.ct_eq(&digest)) {
                found = Some(token);
            }
        }
        found.ok_or_else(|| unauthenticated("the token is not known", true))
    }
}

fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty() && token.len() <= MAX_TOKEN_BYTES)
        .then_some(token)
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
            Ok(name) => name.to_string(),
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
            assert_eq!(&*principal, ANONYMOUS);
        }
    }

    #[test]
    fn tokens_are_kept_hashed() {
        let token = Token::from_secret("n", "very secret", Roles::ALL);
        assert!(!format!("{token:?}").contains("very secret"));
    }
}
