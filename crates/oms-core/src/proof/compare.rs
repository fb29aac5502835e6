//! Compares two stores, offset by offset, and lets the hash chain decide which is right: the `prev`
//! of an object names the hash of the one before it, so that a difference at *n* is decided at
//! *n*+1, and a run of differences from its end backwards. Where the chain does not decide, as for
//! the last object, the leader does. Only the leader's log counts: what a copy holds beyond its
//! leader's end decides nothing.

use super::divergence::{Divergence, DivergenceKind, Remedy};
use super::found::{Found, drill_down};
use crate::domain::ids::{Offset, PartitionId};
use crate::log::lead::Lead;
use crate::log::object::ObjectHash;

/// Differences in a row, at most, that wait for an object on which both stores agree. Kept without
/// their bytes, so a few hundred bytes each.
pub const MAX_PENDING: usize = 10_000;

/// What is kept of one side of a difference.
#[derive(Debug, Clone, Copy, Default)]
struct Side {
    /// Of a readable object.
    hash: Option<ObjectHash>,
    prev: Option<ObjectHash>,
}

impl Side {
    fn of(found: &Found) -> Self {
        match found.object() {
            Some(object) => Self {
                hash: Some(object.hash()),
                prev: Some(object.header.prev),
            },
            None => Self::default(),
        }
    }
}

#[derive(Debug)]
struct Pending {
    divergence: Divergence,
    s3: Side,
    postgres: Side,
}

impl Pending {
    fn side(&self, place: Lead) -> Side {
        match place {
            Lead::S3 => self.s3,
            Lead::Postgres => self.postgres,
        }
    }

    /// The hash of its predecessor, if the difference tells that whichever side is right.
    fn hint(&self) -> Option<ObjectHash> {
        match (self.s3.prev, self.postgres.prev) {
            (Some(a), Some(b)) => (a == b).then_some(a),
            (a, b) => a.or(b),
        }
    }
}

/// The comparison of one partition.
#[derive(Debug)]
pub struct Comparison {
    partition: PartitionId,
    lead: Option<Lead>,
    next: Offset,
    /// Hash of the correct object before the pending ones; `None` if unknown.
    prev: Option<ObjectHash>,
    pending: Vec<Pending>,
}

impl Comparison {
    /// Compares from `from` on; `prev` is the hash of the object before it, if known. `lead`
    /// decides where the chain does not; with `None`, while the lead is being moved, nobody does.
    pub fn new(
        partition: PartitionId,
        lead: Option<Lead>,
        from: Offset,
        prev: Option<ObjectHash>,
    ) -> Self {
        let prev = if from == 0 {
            Some(ObjectHash::NONE)
        } else {
            prev
        };
        Self {
            partition,
            lead,
            next: from,
            prev,
            pending: Vec::new(),
        }
    }

    /// The offset expected next.
    pub fn next_offset(&self) -> Offset {
        self.next
    }

    /// Where to continue after an interruption: everything before it is decided.
    pub fn settled(&self) -> (Offset, Option<ObjectHash>) {
        (self.next - self.pending.len() as u64, self.prev)
    }

    /// Whether differences wait for a later object.
    pub fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Compares what the stores hold at the next offset; returns the differences that this decides.
    pub fn take(&mut self, s3: &Found, postgres: &Found) -> Vec<Divergence> {
        let offset = self.next;
        self.next += 1;
        let Some(object) = s3.object().filter(|_| s3.agrees_with(postgres)) else {
            let divergence = describe(self.partition, offset, s3, postgres);
            self.pending.push(Pending {
                divergence,
                s3: Side::of(s3),
                postgres: Side::of(postgres),
            });
            return self.bound();
        };
        let decided_before = !self.pending.is_empty();
        let mut decided = self.resolve(Some(object.header.prev), false);
        let follows = self.prev.is_none_or(|prev| prev == object.header.prev);
        if !follows && !decided_before {
            decided.push(self.broken(offset, object.hash(), object.hash()));
        }
        self.prev = Some(object.hash());
        decided
    }

    /// Ends the comparison. `after` is the leader's next object, if the leader reaches further than
    /// its copy; never that of a copy beyond the leader's end.
    pub fn end(&mut self, after: &Found) -> Vec<Divergence> {
        let named = after.object().map(|object| object.header.prev);
        self.resolve(named, named.is_none())
    }

    fn broken(&self, offset: Offset, s3: ObjectHash, postgres: ObjectHash) -> Divergence {
        let mut broken = Divergence::new(self.partition, offset, DivergenceKind::ChainBroken);
        broken.s3 = Some(s3.to_string());
        broken.postgres = Some(postgres.to_string());
        broken.why = "it does not follow the object before it, whose hash is another".into();
        broken
    }

    /// Decides the older half of a run that is too long by what its younger half says.
    fn bound(&mut self) -> Vec<Divergence> {
        if self.pending.len() <= MAX_PENDING {
            return Vec::new();
        }
        let younger = self.pending.split_off(MAX_PENDING / 2);
        let named = younger.first().and_then(Pending::hint);
        let decided = self.resolve(named, false);
        self.pending = younger;
        decided
    }

    /// Decides every pending difference, from the youngest backwards. `named` is the hash that the
    /// object after them names; `last`: there is no such object.
    fn resolve(&mut self, mut named: Option<ObjectHash>, last: bool) -> Vec<Divergence> {
        let mut decided = Vec::new();
        let mut pending = std::mem::take(&mut self.pending);
        let youngest = pending.len().saturating_sub(1);
        let leaders_before = self.lead.and_then(|lead| {
            let before = pending.get(youngest.checked_sub(1)?)?;
            before.side(lead).hash
        });
        let mut newest_right = None;
        let mut right_prev = None;
        for (i, entry) in pending.iter_mut().enumerate().rev() {
            let before = if i == 0 { self.prev } else { None };
            let end = (last && i == youngest).then_some(End {
                lead: self.lead,
                before: leaders_before,
            });
            let (right, why) = decide(entry, named, before, end);
            named = right.and_then(|place| entry.side(place).prev);
            right_prev = named;
            if i == youngest {
                newest_right = right.and_then(|place| entry.side(place).hash);
            }
            let divergence = &mut entry.divergence;
            divergence.right = right;
            divergence.why = match divergence.why.is_empty() {
                true => why.to_owned(),
                false => format!("{}; {why}", divergence.why),
            };
            divergence.repair = remedy(divergence.kind, right);
        }
        if let (Some(oldest), Some(prev), Some(right_prev)) =
            (pending.first(), self.prev, right_prev)
            && prev != right_prev
        {
            let mut broken = Divergence::new(
                self.partition,
                oldest.divergence.offset,
                DivergenceKind::ChainBroken,
            );
            broken.s3.clone_from(&oldest.divergence.s3);
            broken.postgres.clone_from(&oldest.divergence.postgres);
            broken.why =
                "even the right one of the two does not follow the object before it".into();
            decided.push(broken);
        }
        if !pending.is_empty() {
            self.prev = newest_right;
        }
        decided.extend(pending.into_iter().map(|entry| entry.divergence));
        decided
    }
}

/// The end of what both stores could hold.
#[derive(Debug, Clone, Copy)]
struct End {
    /// The leader, which decides there.
    lead: Option<Lead>,
    /// The leader's object before the last one, if it differs from the copy's and can be read: an
    /// object that does not follow it is no part of the leader's log.
    before: Option<ObjectHash>,
}

/// Decides which side is right, and why.
fn decide(
    entry: &Pending,
    named: Option<ObjectHash>,
    before: Option<ObjectHash>,
    end: Option<End>,
) -> (Option<Lead>, &'static str) {
    if let Some(named) = named {
        return match [Lead::S3, Lead::Postgres]
            .into_iter()
            .find(|place| entry.side(*place).hash == Some(named))
        {
            Some(place) => (Some(place), "the object after it names its hash"),
            None => (
                None,
                "neither has the hash that the object after it names: nothing to put in its place",
            ),
        };
    }
    let whole = |place: Lead| {
        let side = entry.side(place);
        let leaders = end.filter(|end| end.lead != Some(place));
        let befores = [before, leaders.and_then(|end| end.before)];
        let mut befores = befores.into_iter().flatten();
        side.hash.is_some() && befores.all(|before| side.prev == Some(before))
    };
    let lead = end.and_then(|end| end.lead);
    match (whole(Lead::S3), whole(Lead::Postgres), lead) {
        (true, true, Some(lead)) => (
            Some(lead),
            "it is the last object that both could hold: the leader decides",
        ),
        (true, true, None) if end.is_some() => (
            None,
            "it is the last object that both could hold, and the lead is being moved",
        ),
        (true, true, None) => (None, "what follows it can be read in neither place"),
        (true, false, _) => (
            Some(Lead::S3),
            "only S3's can be read and follows the object before it",
        ),
        (false, true, _) => (
            Some(Lead::Postgres),
            "only PostgreSQL's can be read and follows the object before it",
        ),
        (false, false, _) => (
            None,
            "neither can be read and follows the object before it: nothing to put in its place",
        ),
    }
}

fn remedy(kind: DivergenceKind, right: Option<Lead>) -> Remedy {
    match (kind, right) {
        (_, None) => Remedy::None,
        (DivergenceKind::MissingInPostgres, Some(Lead::S3)) => Remedy::CopyToPostgres,
        (DivergenceKind::MissingInS3, Some(Lead::Postgres)) => Remedy::CopyToS3,
        // A missing object cannot be the right one.
        (DivergenceKind::MissingInPostgres | DivergenceKind::MissingInS3, Some(_)) => Remedy::None,
        (_, Some(Lead::S3)) => Remedy::ReplaceInPostgres,
        (_, Some(Lead::Postgres)) => Remedy::ReplaceInS3,
    }
}

/// Describes a difference by itself, without its neighbours.
fn describe(partition: PartitionId, offset: Offset, s3: &Found, postgres: &Found) -> Divergence {
    let kind = match (s3, postgres) {
        (Found::Object(_), Found::Object(_)) => DivergenceKind::Differs,
        (Found::Absent, Found::Object(_)) => DivergenceKind::MissingInS3,
        (Found::Object(_), Found::Absent) => DivergenceKind::MissingInPostgres,
        (Found::Damaged(_), Found::Object(_)) => DivergenceKind::DamagedInS3,
        (Found::Object(_), Found::Damaged(_)) => DivergenceKind::DamagedInPostgres,
        _ => DivergenceKind::DamagedInBoth,
    };
    let mut divergence = Divergence::new(partition, offset, kind);
    let events = drill_down(s3, postgres);
    let text = |hash: Option<ObjectHash>| hash.map(|h| h.to_string());
    divergence.s3 = text(s3.hash());
    divergence.postgres = text(postgres.hash());
    divergence.index = events.index;
    divergence.stream = events.first.as_ref().map(|e| e.stream.to_string());
    divergence.version = events.first.as_ref().map(|e| e.version);
    divergence.s3_event = text(events.s3);
    divergence.postgres_event = text(events.postgres);
    divergence.events = events.events;
    divergence.streams = events.streams;
    let damage = |found: &Found| match found {
        Found::Damaged(damage) => Some(damage.why.clone()),
        Found::Absent | Found::Object(_) => None,
    };
    divergence.why = [damage(s3), damage(postgres)]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("; ");
    divergence
}

#[cfg(test)]
mod tests;
