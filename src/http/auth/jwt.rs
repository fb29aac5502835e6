//! A JSON Web Token (RFC 7519) of the provider: whether it signed it, for this service, and not for
//! longer ago; who it is about and what that one may do. Pure: keys and time are given.

use std::sync::Arc;

use jiff::Timestamp;
use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::roles::Roles;
use super::signatures;

/// What tokens are held to.
#[derive(Debug, Clone)]
pub struct Expected {
    /// `iss`, exactly.
    pub issuer: String,
    /// `aud` has one of these.
    pub audience: Vec<String>,
    pub principal_claim: String,
    /// What is put before the principal's claim.
    pub principal_prefix: &'static str,
    pub roles_claim: String,
    /// Values of the claim that give each role.
    pub read: Vec<String>,
    pub write: Vec<String>,
    pub admin: Vec<String>,
    /// So much the clocks may differ, in seconds.
    pub skew_seconds: i64,
}

/// Whom a token is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    pub principal: Arc<str>,
    pub roles: Roles,
    /// From then on it is refused: its `exp` and the skew.
    pub expires: Timestamp,
    /// The key that it is signed with; shared, since a key may have a chain of certificates with it.
    pub key: Arc<Jwk>,
}

/// Why a token is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejected {
    /// It is signed with a key that is not among those known.
    UnknownKey,
    /// For this reason; repeating it is in vain.
    Invalid(String),
}

/// Longest text of the principal's claim, in bytes: it is recorded with every event. A `sub` has up
/// to 255 (OpenID Connect Core, 2), that of a Kubernetes account up to 340.
const MAX_PRINCIPAL_BYTES: usize = 400;

/// What `typ` of the header may be (RFC 9068, 2.1; most providers say `JWT` or nothing).
const TYPES: [&str; 3] = ["jwt", "at+jwt", "application/at+jwt"];

/// Claims of tokens that the provider signs with the same keys and that are not for access: of ID
/// tokens (OpenID Connect Core, 3.1.3.6 and 3.3.2.11), of those that sign out (Back-Channel Logout,
/// 2.4), and of those that only their owner may show, who proves it (RFC 7800): that proof is not
/// looked at here.
const OF_OTHER_TOKENS: [&str; 5] = ["at_hash", "c_hash", "s_hash", "events", "cnf"];

/// What Keycloak calls tokens of other kinds in their claim `typ`.
const OTHER_TYPES: [&str; 4] = ["ID", "Refresh", "Offline", "Logout"];

/// Whether this could be such a token at all: three parts, and the first is an object in base64url.
pub fn looks_like_one(token: &str) -> bool {
    token.starts_with("eyJ") && token.bytes().filter(|b| *b == b'.').count() == 2
}

/// Who a token is about, if it is to be believed `now`.
pub fn read(
    token: &str,
    keys: &[Arc<Jwk>],
    expected: &Expected,
    now: Timestamp,
) -> Result<Claimed, Rejected> {
    let header = header(token)?;
    let signed_by = key_of(keys, &header)?;
    let key = DecodingKey::from_jwk(signed_by).map_err(|e| invalid(e.kind()))?;
    let mut rules = Validation::new(header.alg);
    rules.set_issuer(&[&expected.issuer]);
    rules.set_audience(&expected.audience);
    rules.set_required_spec_claims(&["iss", "aud"]);
    // By our own clock, below.
    rules.validate_exp = false;
    rules.validate_nbf = false;
    let claims = decode::<Map<String, Value>>(token, &key, &rules);
    let claims = claims.map_err(|e| invalid(e.kind()))?.claims;
    issued_by(&claims, expected)?;
    for_access(&claims)?;
    let expires = lifetime(&claims, expected.skew_seconds, now)?;
    Ok(Claimed {
        principal: principal(&claims, expected)?,
        roles: roles(&claims, expected),
        expires,
        key: signed_by.clone(),
    })
}

/// Whether a token is worth waiting for keys: it says that it is the provider's, and is signed in a
/// way that is taken. Nothing of it is believed.
pub fn claims_to_be_ours(token: &str, expected: &Expected) -> Result<(), Rejected> {
    header(token)?;
    let claims = insecure_decode_claims::<Map<String, Value>>(token);
    issued_by(&claims.map_err(|e| invalid(e.kind()))?, expected)
}

fn header(token: &str) -> Result<Header, Rejected> {
    let header = decode_header(token).map_err(|e| invalid(e.kind()))?;
    if let Some(kind) = &header.typ
        && !TYPES.contains(&kind.to_ascii_lowercase().as_str())
    {
        return Err(not_for_access());
    }
    if !signatures::ALGORITHMS.contains(&header.alg) {
        return Err(invalid(&ErrorKind::InvalidAlgorithm));
    }
    Ok(header)
}

fn issued_by(claims: &Map<String, Value>, expected: &Expected) -> Result<(), Rejected> {
    match claims.get("iss") {
        Some(Value::String(issuer)) if *issuer == expected.issuer => Ok(()),
        _ => Err(invalid(&ErrorKind::InvalidIssuer)),
    }
}

fn for_access(claims: &Map<String, Value>) -> Result<(), Rejected> {
    let kind = claims.get("typ").and_then(Value::as_str);
    let other = kind.is_some_and(|kind| OTHER_TYPES.contains(&kind));
    if other
        || OF_OTHER_TOKENS
            .iter()
            .any(|name| claims.contains_key(*name))
    {
        return Err(not_for_access());
    }
    Ok(())
}

fn not_for_access() -> Rejected {
    Rejected::Invalid("it is another kind of token than one for access".into())
}

/// The key that a token says it is signed with; without a name the only one that can do it.
fn key_of<'a>(keys: &'a [Arc<Jwk>], header: &Header) -> Result<&'a Arc<Jwk>, Rejected> {
    let mut fitting = keys.iter().filter(|key| {
        let id = &key.common.key_id;
        (header.kid.is_none() || *id == header.kid) && signs(key, header.alg)
    });
    let first = fitting.next().ok_or(Rejected::UnknownKey)?;
    if header.kid.is_none() && fitting.next().is_some() {
        let why = "it does not say with which of the provider's keys it is signed";
        return Err(Rejected::Invalid(why.into()));
    }
    Ok(first)
}

/// Whether a key may sign with this algorithm: it is for signatures, and says no other one.
fn signs(key: &Jwk, algorithm: Algorithm) -> bool {
    let for_signatures =
        !matches!(&key.common.public_key_use, Some(other) if *other != PublicKeyUse::Signature);
    let says = key.common.key_algorithm;
    let fits = says.is_none_or(|says| says == KeyAlgorithm::from(algorithm));
    let family = DecodingKey::from_jwk(key).map(|key| key.family());
    for_signatures && fits && family.is_ok_and(|f| f.algorithms().contains(&algorithm))
}

fn lifetime(claims: &Map<String, Value>, skew: i64, now: Timestamp) -> Result<Timestamp, Rejected> {
    let Some(ends) = seconds(claims, "exp")? else {
        return Err(Rejected::Invalid(
            "it has no exp: it would never end".into(),
        ));
    };
    let moment = |seconds: i64| {
        // Beyond the calendar: as late as it goes.
        Timestamp::from_second(seconds).unwrap_or(if seconds < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        })
    };
    let expires = moment(ends.saturating_add(skew));
    if expires <= now {
        return Err(Rejected::Invalid("it has expired".into()));
    }
    match seconds(claims, "nbf")? {
        Some(begins) if moment(begins.saturating_sub(skew)) > now => {
            Err(Rejected::Invalid("it is not valid yet".into()))
        }
        _ => Ok(expires),
    }
}

/// A `NumericDate` (RFC 7519, 2): seconds since 1970, fractions allowed.
fn seconds(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, Rejected> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let number = value.as_f64().filter(|n| n.is_finite());
            let number =
                number.ok_or_else(|| Rejected::Invalid(format!("its {name} is no number")))?;
            Ok(Some(number as i64))
        }
    }
}

fn principal(claims: &Map<String, Value>, expected: &Expected) -> Result<Arc<str>, Rejected> {
    let claim = &expected.principal_claim;
    let name = found(claims, claim)
        .and_then(Value::as_str)
        .unwrap_or_default();
    let fits = (1..=MAX_PRINCIPAL_BYTES).contains(&name.len());
    if !fits || name.trim() != name || name.chars().any(char::is_control) {
        return Err(Rejected::Invalid(format!(
            "its {claim} is no name of 1 to {MAX_PRINCIPAL_BYTES} bytes"
        )));
    }
    // Anybody can say that an address is theirs.
    if claim == "email" && found(claims, "email_verified") == Some(&Value::Bool(false)) {
        return Err(Rejected::Invalid("its email is not verified".into()));
    }
    Ok(format!("{}{name}", expected.principal_prefix).into())
}

fn roles(claims: &Map<String, Value>, expected: &Expected) -> Roles {
    let values: Vec<&str> = match found(claims, &expected.roles_claim) {
        Some(Value::String(words)) => words.split_ascii_whitespace().collect(),
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let any = |wanted: &[String]| wanted.iter().any(|w| values.contains(&w.as_str()));
    Roles {
        read: any(&expected.read),
        write: any(&expected.write),
        admin: any(&expected.admin),
    }
}

/// A claim by its name; where there is none of that name, by a path of names between dots.
fn found<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    // Names within the path may have dots themselves: `kubernetes.io.serviceaccount.name`.
    name.match_indices('.').find_map(|(at, _)| {
        let inner = claims.get(&name[..at])?.as_object()?;
        found(inner, &name[at + 1..])
    })
}

/// In words that tell whoever made the token what to do, and nothing of the keys.
fn invalid(kind: &ErrorKind) -> Rejected {
    let why = match kind {
        ErrorKind::InvalidSignature => "its signature is not that of the provider".to_owned(),
        ErrorKind::InvalidAlgorithm
        | ErrorKind::InvalidAlgorithmName
        | ErrorKind::UnsupportedAlgorithm => "its algorithm is not taken".to_owned(),
        ErrorKind::InvalidIssuer => "its iss is not the provider that is trusted here".to_owned(),
        ErrorKind::InvalidAudience => "its aud is not this service".to_owned(),
        ErrorKind::MissingRequiredClaim(claim) => format!("it has no {claim}"),
        ErrorKind::InvalidClaimFormat(claim) => format!("its {claim} is malformed"),
        _ => "it is not a JSON Web Token".to_owned(),
    };
    Rejected::Invalid(why)
}

#[cfg(test)]
mod tests;
