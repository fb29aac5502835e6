//! The world the nodes live in: the two stores, and requests that are on their way to them.
//!
//! A request takes effect at any time after it was sent, or never. Whether its answer comes back,
//! or the sender has given up or crashed, makes no difference to the stores, so answers are not
//! modelled: a node learns what happened by looking. An acknowledged write is therefore any write
//! that took effect, which is more than the service ever acknowledges.
//!
//! Nodes remember nothing, so a crash takes nothing from them; a node that has not heard of
//! something is one that acts on an older state of a store, and any state there ever was will do.

use oms_core::domain::ids::{Epoch, Offset};
use oms_core::log::lead::Lead;
use oms_core::log::object::ControlRecord;
use oms_core::migration::fence::may_append_in_postgres;
use oms_core::migration::handoff::{PostgresView, S3View};
use oms_core::migration::record::{MigrationRow, Step};

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
    SetRow {
        from: MigrationRow,
        to: MigrationRow,
    },
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

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct World {
    pub row: MigrationRow,
    pub postgres: Vec<Object>,
    pub s3: Vec<Object>,
    /// Sorted, each once: the second of two equal requests has no effect anyway.
    pub on_their_way: Vec<Request>,
    /// Rows of hand-offs that have been, as PostgreSQL was when they came to be: somebody may have
    /// looked then and act on it now.
    pub past: Vec<PostgresView>,
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
        self.s3_view_at(self.s3.len())
    }

    /// S3 as it was when its log had this many objects.
    pub fn s3_view_at(&self, len: usize) -> S3View {
        S3View {
            next: len as Offset,
            control: last_control(&self.s3[..len]),
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

    /// Puts a request on its way, if that can make a difference.
    pub fn send(&mut self, request: Request, flaw: Option<Flaw>) {
        if self.may_matter(&request, flaw)
            && let Err(place) = self.on_their_way.binary_search(&request)
        {
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
                let blindly = flaw == Some(Flaw::RowSetBlindly);
                if self.row.compare_and_set(&from, &to) || blindly {
                    self.row = to;
                    if to.step != Step::Steady {
                        self.past.push(self.postgres_view());
                    }
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
        let mut requests = std::mem::take(&mut self.on_their_way);
        requests.retain(|request| self.may_matter(request, flaw));
        self.on_their_way = requests;
    }

    /// Whether a request can still have an effect: logs, epochs and revisions only grow.
    fn may_matter(&self, request: &Request, flaw: Option<Flaw>) -> bool {
        match request {
            Request::PutInS3 { offset, .. } => *offset >= self.s3.len() as Offset,
            Request::AppendInPostgres { offset, object } => {
                let outlived = match object {
                    Object::Event { epoch, .. } => *epoch < self.row.epoch,
                    Object::Control { .. } => false,
                };
                let unchecked = flaw == Some(Flaw::NoRowLock);
                *offset >= self.postgres.len() as Offset && (unchecked || !outlived)
            }
            Request::CopyToPostgres { offset, .. } => *offset >= self.postgres.len() as Offset,
            Request::SetRow { from, .. } => {
                from.revision >= self.row.revision || flaw == Some(Flaw::RowSetBlindly)
            }
        }
    }

    /// The nodes are alike: of a world and its mirror image one is enough.
    pub fn representative(&self) -> Self {
        let mut mirror = Self {
            row: self.row,
            postgres: self.postgres.iter().map(|o| o.swapped()).collect(),
            s3: self.s3.iter().map(|o| o.swapped()).collect(),
            on_their_way: self.on_their_way.iter().map(|r| r.swapped()).collect(),
            past: self.past.clone(),
            gap: self.gap,
        };
        mirror.on_their_way.sort_unstable();
        mirror.min(self.clone())
    }
}
