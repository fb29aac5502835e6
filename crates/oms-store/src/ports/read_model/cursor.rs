//! Opaque cursors: the end of a page, bound to the query that it belongs to.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::field::Field;
use super::sort::SortKey;
use oms_core::domain::refusal::Refusal;

/// Longest cursor that is read, in bytes: eight sort keys of 256 four-byte characters, escaped and
/// encoded, are half of it. A number among the sort keys may have more digits than fit, and is then
/// refused.
const MAX_CURSOR_BYTES: usize = 64 * 1024;

/// The serialised form of [`After`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    #[serde(rename = "q")]
    fingerprint: String,
    #[serde(rename = "k", default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<String>,
    #[serde(rename = "i")]
    id: String,
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
}

/// The end of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After {
    /// The sort terms of its last item as text, see [`terms`].
    pub keys: Vec<String>,
    /// The id of its last item.
    pub id: String,
    /// The total that the first page counted.
    pub total: Option<u64>,
}

/// A part of a sort key, by the type with which the store compares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term {
    /// A small integer that stands for the value's type.
    Rank,
    /// An integer.
    Integer,
    /// A time, as microseconds since 1970.
    Micros,
    /// An exact decimal.
    Number,
    /// Text, compared by bytes.
    Text,
}

/// The terms a field sorts by.
pub fn terms(field: &Field) -> &'static [Term] {
    match field {
        Field::Id => &[Term::Text],
        Field::Version => &[Term::Integer],
        Field::CreatedAt | Field::UpdatedAt => &[Term::Micros],
        Field::Path(_) => &[Term::Rank, Term::Number, Term::Text],
    }
}

impl Cursor {
    pub(super) fn new(fingerprint: u64, keys: Vec<String>, id: String, total: Option<u64>) -> Self {
        Self {
            fingerprint: format!("{fingerprint:016x}"),
            keys,
            id,
            total,
        }
    }

    pub(super) fn encode(&self) -> String {
        // Cannot fail: plain data serialised into memory.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    pub(super) fn decode(text: &str) -> Result<Self, Refusal> {
        if text.len() > MAX_CURSOR_BYTES {
            return Err(invalid());
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
        serde_json::from_slice(&bytes).map_err(|_| invalid())
    }

    /// The end of the previous page, if that belonged to the query with this fingerprint. Checks
    /// that the store can compare with what a caller may have changed in it.
    pub(super) fn verify(&self, fingerprint: u64, sort: &[SortKey]) -> Result<After, Refusal> {
        let expected: Vec<Term> = sort
            .iter()
            .flat_map(|key| terms(&key.field))
            .copied()
            .collect();
        let comparable = |(term, key): (&Term, &String)| match term {
            Term::Rank => key.parse::<i32>().is_ok(),
            Term::Integer => key.parse::<i64>().is_ok(),
            Term::Micros => micros(key).is_some(),
            Term::Number => is_decimal(key),
            Term::Text => !key.contains('\0'),
        };
        let good = self.fingerprint == format!("{fingerprint:016x}")
            && self.keys.len() == expected.len()
            && expected.iter().zip(&self.keys).all(comparable)
            && !self.id.contains('\0');
        if !good {
            return Err(invalid());
        }
        Ok(After {
            keys: self.keys.clone(),
            id: self.id.clone(),
            total: self.total,
        })
    }
}

/// The time in a [`Term::Micros`].
pub fn micros(key: &str) -> Option<Timestamp> {
    Timestamp::from_microsecond(key.parse().ok()?).ok()
}

fn is_decimal(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    [whole, fraction]
        .iter()
        .all(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn invalid() -> Refusal {
    Refusal::invalid(
        "invalid_cursor",
        "the cursor is none that this query gave; ask again without it",
    )
}

/// A hash that identifies a query in its cursors.
pub(super) fn fingerprint(query: &impl Serialize) -> u64 {
    // Cannot fail, as above.
    let bytes = serde_json::to_vec(query).unwrap_or_default();
    let digest = Sha256::digest(&bytes);
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first)
}
