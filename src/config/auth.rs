//! Who may do what: bearer tokens, kept as hashes.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::oidc::{OidcConfig, PRINCIPAL_PREFIX};
use super::problems::{ConfigError, Problems};

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
    /// The principal: recorded in every event written with it. Two of one name are one principal, so that
    /// a token can be replaced while both are in use.
    pub name: String,
    /// What it allows.
    pub roles: Vec<TokenRole>,
    /// SHA-256 of the token, 64 hex digits; `oms config token` makes a token with its hash.
    pub sha256: String,
    /// When it ends, such as `"2027-01-31T00:00:00Z"`, a text; without it never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

impl TokenConfig {
    fn role_set(&self) -> BTreeSet<TokenRole> {
        self.roles.iter().copied().collect()
    }

    /// The hash's bytes; `None` if it is not 64 hex digits.
    pub fn hash(&self) -> Option<[u8; 32]> {
        let mut hash = [0; 32];
        hex::decode_to_slice(&self.sha256, &mut hash).ok()?;
        Some(hash)
    }

    /// What is wrong with it, by field, beside those that stand before it.
    fn wrong(&self, before: &mut Before) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        let mut add = |field, message: &str| wrong.push((field, message.to_owned()));
        if self.name.is_empty() || self.name.len() > 100 {
            add("name", "must have 1 to 100 bytes");
        }
        if self.name.trim() != self.name || self.name.chars().any(char::is_control) {
            let message = "must not begin or end with a space, nor have control characters";
            add("name", message);
        }
        let folded = self.name.trim().to_lowercase();
        if RESERVED_NAMES.contains(&folded.as_str()) {
            let message = format!("must not be `{}`: that is the service's own", self.name);
            add("name", &message);
        }
        if folded.starts_with(PRINCIPAL_PREFIX) {
            let message =
                format!("must not begin with `{PRINCIPAL_PREFIX}`: that is who signed in");
            add("name", &message);
        }
        let roles = before.roles.entry(self.name.clone());
        if *roles.or_insert_with(|| self.role_set()) != self.role_set() {
            let message =
                "must be those of the other token of this name: one principal, one set of roles";
            add("roles", message);
        }
        if self.roles.is_empty() {
            add("roles", "must name at least one of read, write, admin");
        }
        if self.hash().is_none() {
            let message = "must be the SHA-256 of the token in 64 hex digits, not the token itself";
            add("sha256", message);
        } else if !before.hashes.insert(self.hash()) {
            add("sha256", "must not be that of another token");
        }
        wrong
    }
}

/// Of the tokens that stand before one: roles by name, and hashes.
#[derive(Default)]
struct Before {
    roles: HashMap<String, BTreeSet<TokenRole>>,
    hashes: HashSet<Option<[u8; 32]>>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// The tokens. Where there are none, nor a file or a provider of them, everybody may do everything.
    pub tokens: Vec<TokenConfig>,
    /// A file with a JSON list of tokens, which are known beside those of `auth.tokens`. It is read again
    /// within seconds when it changes: who is put in is let in, and who is taken out refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_file: Option<PathBuf>,
    /// Sign-in by an OpenID Connect provider.
    pub oidc: OidcConfig,
    /// What `tokens_file` holds.
    #[serde(skip)]
    from_file: Vec<TokenConfig>,
}

/// Larger files are not read: ten thousand tokens have three megabytes.
const MAX_FILE_BYTES: u64 = 16 << 20;

impl AuthConfig {
    /// Whether callers have to say who they are.
    pub fn is_required(&self) -> bool {
        !self.tokens.is_empty() || self.tokens_file.is_some() || self.oidc.issuer.is_some()
    }

    /// The tokens of the configuration, then those of the file.
    pub fn all_tokens(&self) -> impl Iterator<Item = &TokenConfig> {
        self.tokens.iter().chain(&self.from_file)
    }

    /// The same with what the file holds now.
    pub fn read_again(&self) -> Result<Self, ConfigError> {
        let mut problems = Problems::default();
        let mut again = self.clone();
        again.read_file(&mut problems);
        again.check_tokens(&mut problems);
        match problems.0.is_empty() {
            true => Ok(again),
            false => Err(ConfigError {
                problems: problems.0,
            }),
        }
    }

    pub(super) fn read_file(&mut self, problems: &mut Problems) {
        let Some(path) = &self.tokens_file else {
            return;
        };
        match read_tokens(path) {
            Ok(tokens) => self.from_file = tokens,
            Err(why) => problems.add(FILE_KEY, format!("{}: {why}", path.display())),
        }
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        self.oidc.check(problems);
        self.check_tokens(problems);
    }

    fn check_tokens(&self, problems: &mut Problems) {
        let mut before = Before::default();
        for (i, token) in self.all_tokens().enumerate() {
            let in_file = i.checked_sub(self.tokens.len());
            for (field, message) in token.wrong(&mut before) {
                match in_file {
                    None => problems.add(format!("auth.tokens.{i}.{field}"), message),
                    Some(n) => problems.add(FILE_KEY, format!("{field} of token {n} {message}")),
                }
            }
        }
    }
}

const FILE_KEY: &str = "auth.tokens_file";

fn read_tokens(path: &Path) -> Result<Vec<TokenConfig>, String> {
    let file = File::open(path).map_err(|e| format!("cannot be read: {e}"))?;
    let mut text = String::new();
    let mut bounded = file.take(MAX_FILE_BYTES + 1);
    let length = bounded.read_to_string(&mut text);
    match length.map_err(|e| format!("cannot be read: {e}"))? {
        0 => return Err("is empty; a list without tokens is []".into()),
        n if n as u64 > MAX_FILE_BYTES => {
            return Err(format!("has more than {MAX_FILE_BYTES} bytes"));
        }
        _ => {}
    }
    // Where it is wrong, not what stands there: that may be a token.
    serde_json::from_str(&text).map_err(|e| {
        let (line, column) = (e.line(), e.column());
        format!("is no JSON list of tokens: see line {line}, column {column}")
    })
}

#[cfg(test)]
mod tests;
