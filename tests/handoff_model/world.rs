//! The world the nodes live in: the two stores, and requests that are on their way to them.
//!
//! A request takes effect at any time after it was sent, or never. Whether its answer comes back,
//! or the sender has given up or crashed, makes no difference to the stores, so answers are not
//! modelled: a node learns what happened by looking. An acknowledged write is therefore any write
//! that took effect, which is more than the service ever acknowledges.

use oms::domain::ids::{Epoch, Offset};
use oms::log::object::ControlRecord;
use oms::migration::fence::may_append_in_postgres;
use oms::migration::handoff::{PostgresView, S3View};
use oms::migration::lead::{Lead, Leadership};
use oms::migration::record::MigrationRow;

use super::flaws::Flaw;

/// A commit object. Two are the same bytes exactly when they are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    Control {
        record: ControlRecord,
        by: u8,
    },
    Event {
        stream: u8,
        version: u8,
        command: u8,
        epoch: Epoch,
        by: u8,
    },
}

impl Object {
    pub fn control(&self) -> Option<ControlRecord> {
        match self {
            Object::Control { record, .. } => Some(*record),
            Object::Event { .. } => None,
        }
    }

    /// Written by the other node.
    fn swapped(self) -> Self {
        match self {
            Object::Control { record, by } => Object::Control { record, by: 1 - by },
            Object::Event {
                stream,
                version,
                command,
                epoch,
                by,
            } => Object::Event {
                stream,
                version,
                command,
                epoch,
                by: 1 - by,
            },
        }
    }
}

/// What is on its way to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Request {
    /// A put-if-absent: a write, a copy or a control record.
    PutInS3 { offset: Offset, object: Object },
    /// A transaction: read the row for share, check it, insert the object.
    AppendInPostgres { offset: Offset, object: Object },
    /// A transaction that inserts a copy.
    CopyToPostgres { offset: Offset, object: Object },
    /// A compare-and-set of the row.
    SetRow { from: MigrationRow, to: MigrationRow },
}

impl Request {
    fn swapped(self) -> Self {
        match self {
            Request::PutInS3 { offset, object } => Request::PutInS3 {
                offset,
                object: object.swapped(),
            },
            Request::AppendInPostgres { offset, object } => Request::AppendInPostgres {
                offset,
                object: object.swapped(),
            },
            Request::CopyToPostgres { offset, object } => Request::CopyToPostgres {
                offset,
                object: object.swapped(),
            },
            Request::SetRow { .. } => self,
        }
    }
}

/// What a node remembers. A crash forgets it all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// Who leads, as its writers have heard; possibly long ago.
    pub heard: Option<Leadership>,
    /// One side of what it looks at before its next step in a hand-off.
    pub seen: Option<Seen>,
}

/// The side that was looked at first; the step follows when the other has been looked at too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Seen {
    Postgres(PostgresView),
    S3(S3View),
    /// Only in a broken variant: PostgreSQL's end without its row.
    PostgresEnd(Offset),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct World {
    pub row: MigrationRow,
    pub postgres: Vec<Object>,
    pub s3: Vec<Object>,
    /// Sorted, each once: the second of two equal requests has no effect anyway.
    pub on_their_way: Vec<Request>,
    pub nodes: [Node; 2],
    /// An object was inserted beyond the end of PostgreSQL's log.
    pub gap: bool,
}

pub fn last_control(log: &[Object]) -> Option<ControlRecord> {
    log.iter().rev().find_map(Object::control)
}

impl World {
    pub fn postgres_view(&self) -> PostgresView {
        PostgresView {
            row: self.row,
            next: self.postgres.len() as Offset,
        }
    }

    pub fn s3_view(&self) -> S3View {
        S3View {
            next: self.s3.len() as Offset,
            control: last_control(&self.s3),
        }
    }

    /// The store whose log is the truth: S3 from the control record that says so to the moment the
    /// row gives the lead back to PostgreSQL.
    pub fn leading(&self) -> &[Object] {
        let in_s3 = last_control(&self.s3).is_some_and(|c| c.lead == Lead::S3);
        if in_s3 || self.row.stage.lead() == Lead::S3 {
            &self.s3
        } else {
            &self.postgres
        }
    }

    pub fn send(&mut self, request: Request) {
        if let Err(place) = self.on_their_way.binary_search(&request) {
            self.on_their_way.insert(place, request);
        }
    }

    /// A request takes effect.
    pub fn arrive(&mut self, request: Request, flaw: Option<Flaw>) {
        self.on_their_way.retain(|r| *r != request);
        match request {
            Request::PutInS3 { offset, object } => {
                if offset == self.s3.len() as Offset {
                    self.s3.push(object);
                }
            }
            Request::AppendInPostgres { offset, object } => {
                let Object::Event { epoch, .. } = object else {
                    unreachable!("control records reach PostgreSQL as copies")
                };
                let fenced = may_append_in_postgres(&self.row, epoch).is_err();
                if !fenced || flaw == Some(Flaw::NoRowLock) {
                    self.insert(offset, object);
                }
            }
            Request::CopyToPostgres { offset, object } => self.insert(offset, object),
            Request::SetRow { from, to } => {
                if flaw == Some(Flaw::RowSetBlindly) {
                    self.row = to;
                } else {
                    self.row.compare_and_set(&from, &to);
                }
            }
        }
        self.forget_the_spent(flaw);
    }

    fn insert(&mut self, offset: Offset, object: Object) {
        let end = self.postgres.len() as Offset;
        if offset == end {
            self.postgres.push(object);
        }
        self.gap |= offset > end;
    }

    /// Drops requests that can have no effect any more, so that worlds which differ only in them
    /// are one.
    fn forget_the_spent(&mut self, flaw: Option<Flaw>) {
        let (row, postgres, s3) = (self.row, self.postgres.len(), self.s3.len());
        self.on_their_way.retain(|request| match request {
            Request::PutInS3 { offset, .. } => *offset >= s3 as Offset,
            Request::AppendInPostgres { offset, object } => {
                // The row's epoch only grows.
                let outlived = match object {
                    Object::Event { epoch, .. } => *epoch < row.epoch,
                    Object::Control { .. } => false,
                };
                *offset >= postgres as Offset && !(outlived && flaw.is_none())
            }
            Request::CopyToPostgres { offset, .. } => *offset >= postgres as Offset,
            Request::SetRow { from, .. } => {
                from.revision >= row.revision || flaw == Some(Flaw::RowSetBlindly)
            }
        });
    }

    /// The nodes are alike: of a world and its mirror image one is enough.
    pub fn representative(&self) -> Self {
        let mut mirror = Self {
            row: self.row,
            postgres: self.postgres.iter().map(|o| o.swapped()).collect(),
            s3: self.s3.iter().map(|o| o.swapped()).collect(),
            on_their_way: self.on_their_way.iter().map(|r| r.swapped()).collect(),
            nodes: [self.nodes[1], self.nodes[0]],
            gap: self.gap,
        };
        mirror.on_their_way.sort_unstable();
        mirror.min(self.clone())
    }
}
