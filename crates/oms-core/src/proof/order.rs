//! An operator's permission to repair an object of the leading log. It names the offset and the
//! beginning of the current object's hash: the operator has seen that object, and if it has changed
//! since, the permission does not apply.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::domain::ids::{Offset, PartitionId};
use crate::log::object::ObjectHash;

/// Hexadecimal digits of the hash at least, so that no permission matches by chance.
pub const MIN_DIGITS: usize = 8;

/// Digits of the hash in a report.
const SHOWN_DIGITS: usize = 16;

/// Stands for an offset without an object.
const ABSENT: &str = "absent";

/// Permission to repair one offset. Written `PARTITION/OFFSET:HASH`, where `HASH` is the beginning
/// of the SHA-256 of the current object, or `absent`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LeaderOrder {
    partition: PartitionId,
    offset: Offset,
    /// The first digits of its hash; `None` for `absent`.
    found: Option<String>,
}

/// Text that is no such permission.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` must be PARTITION/OFFSET:HASH, HASH being at least {MIN_DIGITS} digits of the SHA-256 \
     of what is to be replaced, or `absent`"
)]
pub struct NoOrder(String);

impl LeaderOrder {
    /// The permission that is needed to replace this object.
    pub fn naming(partition: PartitionId, offset: Offset, found: Option<&ObjectHash>) -> Self {
        let digits = |hash: &ObjectHash| hash.to_string()[..SHOWN_DIGITS].to_owned();
        Self {
            partition,
            offset,
            found: found.map(digits),
        }
    }

    /// The partition of the offset.
    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    /// Whether it names the current object at this offset.
    pub fn names(
        &self,
        partition: PartitionId,
        offset: Offset,
        found: Option<&ObjectHash>,
    ) -> bool {
        let same = match (&self.found, found) {
            (None, None) => true,
            (Some(digits), Some(hash)) => hash.to_string().starts_with(digits),
            _ => false,
        };
        same && (self.partition, self.offset) == (partition, offset)
    }
}

impl fmt::Display for LeaderOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.found.as_deref().unwrap_or(ABSENT);
        write!(f, "{}/{}:{found}", self.partition, self.offset)
    }
}

impl FromStr for LeaderOrder {
    type Err = NoOrder;

    fn from_str(text: &str) -> Result<Self, NoOrder> {
        let parsed = || {
            let (place, found) = text.split_once(':')?;
            let (partition, offset) = place.split_once('/')?;
            let found = match found {
                ABSENT => None,
                digits => {
                    let hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
                    let length =
                        (MIN_DIGITS..=2 * ObjectHash::NONE.0.len()).contains(&digits.len());
                    (hex && length).then_some(Some(digits.to_ascii_lowercase()))?
                }
            };
            Some(Self {
                partition: PartitionId(partition.parse().ok()?),
                offset: offset.parse().ok()?,
                found,
            })
        };
        parsed().ok_or_else(|| NoOrder(text.chars().take(100).collect()))
    }
}

impl TryFrom<String> for LeaderOrder {
    type Error = NoOrder;

    fn try_from(text: String) -> Result<Self, NoOrder> {
        text.parse()
    }
}

impl From<LeaderOrder> for String {
    fn from(order: LeaderOrder) -> Self {
        order.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_names_one_place_and_what_lies_there() {
        let hash = ObjectHash::of(b"wrong");
        let p = PartitionId(3);
        let order = LeaderOrder::naming(p, 7, Some(&hash));
        assert_eq!(order.to_string().parse(), Ok(order.clone()));
        assert!(order.names(p, 7, Some(&hash)));
        assert!(!order.names(p, 7, Some(&ObjectHash::of(b"another"))));
        assert!(!order.names(p, 8, Some(&hash)) && !order.names(PartitionId(2), 7, Some(&hash)));
        assert!(!order.names(p, 7, None));
        let nothing: LeaderOrder = "3/7:absent".parse().unwrap();
        assert!(nothing.names(p, 7, None) && !nothing.names(p, 7, Some(&hash)));
        let loud: LeaderOrder = format!("3/7:{}", hash.to_string().to_uppercase())
            .parse()
            .unwrap();
        assert!(loud.names(p, 7, Some(&hash)));
    }

    #[test]
    fn what_names_too_little_is_no_order() {
        for text in [
            "",
            "3/7",
            "3/7:",
            "3/7:abcdef0",
            "3:abcdef01",
            "x/7:abcdef01",
            "3/7:nothex!!",
            "3/-1:abcdef01",
            "*:abcdef01",
        ] {
            assert!(text.parse::<LeaderOrder>().is_err(), "{text}");
        }
    }
}
