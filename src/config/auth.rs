//! Who may do what: bearer tokens, kept as hashes.

use serde::{Deserialize, Serialize};

use super::problems::Problems;

/// Names that the service itself uses, or that stand for nobody: a token of that name could not be
/// told apart in events, switches and the audit trail.
pub const RESERVED_NAMES: &[&str] = &["anonymous", "guardrail", "oms", "service", "system"];

/// What a token allows. Each includes nothing but itself: an operator's token names all three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenRole {
    /// Queries, streams, the feed.
    Read,
    /// Commands.
    Write,
    /// Everything under `/api/v1/admin`.
    Admin,
}

/// One token.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenConfig {
    /// The principal: recorded in every event written with it.
    pub name: String,
    /// What it allows.
    pub roles: Vec<TokenRole>,
    /// SHA-256 of the token, 64 hex digits; `oms config token` makes a token with its hash.
    pub sha256: String,
}

impl TokenConfig {
    /// The hash's bytes; `None` if it is not 64 hex digits.
    pub fn hash(&self) -> Option<[u8; 32]> {
        let mut hash = [0; 32];
        hex::decode_to_slice(&self.sha256, &mut hash).ok()?;
        Some(hash)
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// The tokens. Without any, every caller who reaches the service may do everything, so it binds
    /// to loopback only.
    pub tokens: Vec<TokenConfig>,
}

impl AuthConfig {
    pub(super) fn check(&self, problems: &mut Problems) {
        for (i, token) in self.tokens.iter().enumerate() {
            let key = |field: &str| format!("auth.tokens.{i}.{field}");
            if token.name.is_empty() || token.name.len() > 100 {
                problems.add(key("name"), "must have 1 to 100 bytes");
            }
            if token.name.trim() != token.name || token.name.chars().any(char::is_control) {
                let message = "must not begin or end with a space, nor have control characters";
                problems.add(key("name"), message);
            }
            let folded = token.name.trim().to_lowercase();
            if RESERVED_NAMES.contains(&folded.as_str()) {
                let message = format!("`{}` is a name of the service's own", token.name);
                problems.add(key("name"), message);
            }
            if self.tokens[..i].iter().any(|t| t.name == token.name) {
                let message = format!("`{}` is the name of another token", token.name);
                problems.add(key("name"), message);
            }
            if token.roles.is_empty() {
                problems.add(key("roles"), "must name at least one of read, write, admin");
            }
            if token.hash().is_none() {
                problems.add(
                    key("sha256"),
                    "must be the SHA-256 of the token in 64 hex digits, not the token itself",
                );
            }
        }
    }
}
