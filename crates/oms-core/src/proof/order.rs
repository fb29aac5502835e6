//! An operator's permission to repair an object of the leading log, or to move away what lies among its
//! objects and is none. It names the place and the beginning of the hash of what is there: the operator
//! has seen that, and if it has changed since, the permission does not apply.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::domain::ids::{Offset, PartitionId};
use crate::log::object::ObjectHash;
use crate::proof::divergence::StrayName;

/// Hexadecimal digits of the hash at least, so that no permission matches by chance.
pub const MIN_DIGITS: usize = 8;

/// Digits of the hash in a report.
const SHOWN_DIGITS: usize = 16;

/// Stands for an offset without an object.
const ABSENT: &str = "absent";

/// Permission to repair one offset, or to move one stray away. Written `PLACE:HASH`, where `PLACE` is
/// `PARTITION/OFFSET` or the name of the stray, and `HASH` is the beginning of the SHA-256 of what is
/// there, or `absent`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LeaderOrder {
    place: Place,
    /// The first digits of the hash of what is there; `None` for `absent`.
    found: Option<String>,
}

/// What an order names.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Offset(PartitionId, Offset),
    Stray(StrayName),
}

/// Text that is no such permission.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` must be PARTITION/OFFSET:HASH or NAME:HASH as a repair reports it, HASH being at least \
     {MIN_DIGITS} digits of the SHA-256 of what is to be replaced, or `absent`"
)]
pub struct NoOrder(String);

impl LeaderOrder {
    /// The permission that is needed to replace this object.
    pub fn naming(partition: PartitionId, offset: Offset, found: Option<&ObjectHash>) -> Self {
        Self {
            place: Place::Offset(partition, offset),
            found: found.map(shown),
        }
    }

    /// The permission that is needed to move this stray away.
    pub fn naming_stray(name: &StrayName, found: &ObjectHash) -> Self {
        Self {
            place: Place::Stray(name.clone()),
            found: Some(shown(found)),
        }
    }

    /// The partition of the offset; a stray may lie in none.
    pub fn partition(&self) -> Option<PartitionId> {
        match self.place {
            Place::Offset(partition, _) => Some(partition),
            Place::Stray(_) => None,
        }
    }

    /// Whether it names the current object at this offset.
    pub fn names(
        &self,
        partition: PartitionId,
        offset: Offset,
        found: Option<&ObjectHash>,
    ) -> bool {
        self.place == Place::Offset(partition, offset) && self.has_seen(found)
    }

    /// Whether it names this stray, as it is.
    pub fn names_stray(&self, name: &StrayName, found: &ObjectHash) -> bool {
        matches!(&self.place, Place::Stray(named) if named == name) && self.has_seen(Some(found))
    }

    fn has_seen(&self, found: Option<&ObjectHash>) -> bool {
        match (&self.found, found) {
            (None, None) => true,
            (Some(digits), Some(hash)) => hash.to_string().starts_with(digits),
            _ => false,
        }
    }
}

fn shown(hash: &ObjectHash) -> String {
    hash.to_string()[..SHOWN_DIGITS].to_owned()
}

impl fmt::Display for LeaderOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.found.as_deref().unwrap_or(ABSENT);
        match &self.place {
            Place::Offset(partition, offset) => write!(f, "{partition}/{offset}:{found}"),
            Place::Stray(name) => write!(f, "{name}:{found}"),
        }
    }
}

impl FromStr for LeaderOrder {
    type Err = NoOrder;

    fn from_str(text: &str) -> Result<Self, NoOrder> {
        let parsed = || {
            // Keys may have colons, hashes have none.
            let (place, found) = text.rsplit_once(':')?;
            let place = match StrayName::parse(place) {
                Some(name) => Place::Stray(name),
                None => {
                    let (partition, offset) = place.split_once('/')?;
                    let partition = PartitionId(partition.parse().ok()?);
                    Place::Offset(partition, offset.parse().ok()?)
                }
            };
            let found = match found {
                ABSENT => None,
                digits => {
                    let hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
                    let length =
                        (MIN_DIGITS..=2 * ObjectHash::NONE.0.len()).contains(&digits.len());
                    (hex && length).then_some(Some(digits.to_ascii_lowercase()))?
                }
            };
            Some(Self { place, found })
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
    fn an_order_names_one_stray_as_it_was_seen() {
        let hash = ObjectHash::of(b"what is this");
        let row = |index| StrayName::Row {
            partition: 50,
            offset: 3,
            index,
        };
        for name in [
            StrayName::Key("events/0000/notes: old.txt".into()),
            row(0),
            StrayName::Commit {
                partition: 50,
                offset: 3,
            },
        ] {
            let order = LeaderOrder::naming_stray(&name, &hash);
            let read: LeaderOrder = order.to_string().parse().unwrap();
            assert_eq!(read, order);
            assert!(read.names_stray(&name, &hash) && read.partition().is_none());
            assert!(!read.names_stray(&name, &ObjectHash::of(b"another")));
            assert!(!read.names_stray(&row(1), &hash));
            assert!(!read.names(PartitionId(0), 3, Some(&hash)));
        }
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
