//! An instance of a class. It belongs to one incarnation of its class: when the class is deleted
//! and created again, its old instances count as missing.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::aggregate::{Aggregate, DecodeError, DomainEvent, EventMeta};
use super::class::EffectiveClass;
use super::class::effective::Defaults;
use super::codec::{self, Nothing, Stored};
use super::document::Document;
use super::ids::Version;
use super::merge_patch::merge_object;
use super::property::check::{Path, Report};
use super::property::free::check_free_object;
use super::refusal::Refusal;
use super::weight::Weighed;

/// An instance's properties and relationships. Cheap to clone, because state, event and answer all
/// hold it.
pub type Data = Document;

/// The state of an instance's stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    live: Option<LiveInstance>,
}

/// An instance that exists, provided that its class is still in the incarnation in which it was
/// created.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveInstance {
    /// Version of the event that created it, which identifies this incarnation.
    pub incarnation: Version,
    /// The incarnation of the class that it belongs to.
    pub class_incarnation: Version,
    /// Its current data.
    pub data: Data,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Instance {
    /// The instance, unless it does not exist in this incarnation of its class.
    pub fn live(&self, class_incarnation: Version) -> Option<&LiveInstance> {
        self.live
            .as_ref()
            .filter(|live| live.class_incarnation == class_incarnation)
    }

    /// The instance as its last event left it, in whichever incarnation of its class.
    pub fn latest(&self) -> Option<&LiveInstance> {
        self.live.as_ref()
    }

    /// The instance for a command that was made for this incarnation of the class.
    fn seen(&self, class_incarnation: Version) -> Result<Option<&LiveInstance>, Refusal> {
        match &self.live {
            Some(live) if live.class_incarnation > class_incarnation => Err(Refusal::conflict(
                "class_changed",
                "the class was created anew in the meantime",
            )),
            _ => Ok(self.live(class_incarnation)),
        }
    }
}

/// The commands of an instance. Every command names the incarnation of the class that it was made
/// for; one older than the instance's own is refused with 409 `class_changed`.
#[derive(Debug, Clone)]
pub enum InstanceCommand {
    /// Create it. 409 `instance_exists`; 422 `class_is_abstract`, or if the data break the class's
    /// rules.
    Create {
        /// The rules of the class.
        class: Arc<EffectiveClass>,
        /// The class's incarnation.
        class_incarnation: Version,
        /// Its data; the class's defaults are added.
        data: Data,
    },
    /// Change its data. 404 `instance_not_found`; 422 if the new data would break the class's
    /// rules.
    Update {
        /// The rules of the class.
        class: Arc<EffectiveClass>,
        /// The class's incarnation.
        class_incarnation: Version,
        /// A merge patch (RFC 7396) for the data.
        patch: Data,
    },
    /// Delete it. 404 `instance_not_found`.
    Delete {
        /// The class's incarnation.
        class_incarnation: Version,
    },
}

/// The events of an instance.
#[derive(Debug, Clone, PartialEq)]
pub enum InstanceEvent {
    /// `InstanceCreated`
    Created(InstanceCreated),
    /// `InstanceUpdated`
    Updated(InstanceUpdated),
    /// `InstanceDeleted`
    Deleted,
}

/// Data of `InstanceCreated`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceCreated {
    /// The data, including defaults.
    pub data: Data,
    /// The incarnation of the class that it belongs to.
    pub class_incarnation: Version,
}

/// Data of `InstanceUpdated`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceUpdated {
    /// All data after the change.
    pub data: Data,
    /// Names of the top-level members that were added, removed or changed, in order.
    pub changed: Vec<String>,
}

const CREATED: &str = "InstanceCreated";
const UPDATED: &str = "InstanceUpdated";
const DELETED: &str = "InstanceDeleted";

impl DomainEvent for InstanceEvent {
    fn event_type(&self) -> &str {
        match self {
            Self::Created(_) => CREATED,
            Self::Updated(_) => UPDATED,
            Self::Deleted => DELETED,
        }
    }

    fn data(&self) -> Result<Box<RawValue>, serde_json::Error> {
        match self {
            Self::Created(data) => codec::write(data),
            Self::Updated(data) => codec::write(data),
            Self::Deleted => codec::write(&Nothing {}),
        }
    }

    fn decode(event_type: &str, schema_version: u32, data: &RawValue) -> Result<Self, DecodeError> {
        let stored = Stored {
            event_type,
            schema_version,
            data,
        };
        match event_type {
            CREATED => stored.read().map(Self::Created),
            UPDATED => stored.read().map(Self::Updated),
            DELETED => stored.nothing().map(|()| Self::Deleted),
            _ => Err(stored.unknown_type()),
        }
    }
}

impl Aggregate for Instance {
    type Command = InstanceCommand;
    type Event = InstanceEvent;

    const WEIGHED: Weighed = Weighed {
        code: "instance_too_large",
        what: "an instance",
        field: "data",
        each: false,
    };

    fn memory_bytes(&self) -> usize {
        self.stored_bytes()
    }

    fn stored_bytes(&self) -> usize {
        self.live.as_ref().map_or(0, |live| live.data.bytes())
    }

    fn stored_bytes_after(event: &InstanceEvent) -> Option<usize> {
        match event {
            InstanceEvent::Created(created) => Some(created.data.bytes()),
            InstanceEvent::Updated(updated) => Some(updated.data.bytes()),
            InstanceEvent::Deleted => Some(0),
        }
    }

    fn decide(&self, command: &InstanceCommand) -> Result<Vec<InstanceEvent>, Refusal> {
        match command {
            InstanceCommand::Create {
                class,
                class_incarnation,
                data,
            } => {
                if self.seen(*class_incarnation)?.is_some() {
                    return Err(Refusal::conflict(
                        "instance_exists",
                        "the instance exists already",
                    ));
                }
                create(class, *class_incarnation, data)
            }
            InstanceCommand::Update {
                class,
                class_incarnation,
                patch,
            } => {
                let live = self.seen(*class_incarnation)?.ok_or_else(not_found)?;
                update(class, &live.data, patch)
            }
            InstanceCommand::Delete { class_incarnation } => {
                self.seen(*class_incarnation)?.ok_or_else(not_found)?;
                Ok(vec![InstanceEvent::Deleted])
            }
        }
    }

    fn apply(&mut self, event: InstanceEvent, meta: EventMeta) {
        match event {
            InstanceEvent::Created(created) => {
                self.live = Some(LiveInstance {
                    incarnation: meta.version,
                    class_incarnation: created.class_incarnation,
                    data: created.data,
                    created_at: meta.time,
                    updated_at: meta.time,
                });
            }
            InstanceEvent::Updated(updated) => {
                if let Some(live) = &mut self.live {
                    live.data = updated.data;
                    live.updated_at = meta.time;
                }
            }
            InstanceEvent::Deleted => self.live = None,
        }
    }
}

fn create(
    class: &EffectiveClass,
    class_incarnation: Version,
    data: &Data,
) -> Result<Vec<InstanceEvent>, Refusal> {
    if class.is_abstract() {
        return Err(Refusal::invalid(
            "class_is_abstract",
            format!("class `{}` is abstract: it has no instances", class.id()),
        ));
    }
    let data = class.complete(&Arc::new(data.parse()?), Defaults::All);
    class.validate(&data)?;
    Ok(vec![InstanceEvent::Created(InstanceCreated {
        data: Document::of(&data)?,
        class_incarnation,
    })])
}

fn update(
    class: &EffectiveClass,
    before: &Data,
    patch: &Data,
) -> Result<Vec<InstanceEvent>, Refusal> {
    let patch = patch.parse()?;
    check_patch(&patch)?;
    let before = before.parse()?;
    let mut merged = before.clone();
    merge_object(&mut merged, &patch);
    if merged == before {
        return Ok(vec![]);
    }
    let after = class.complete(&Arc::new(merged), Defaults::Required);
    if *after == before {
        return Ok(vec![]);
    }
    class.validate(&after)?;
    Ok(vec![InstanceEvent::Updated(InstanceUpdated {
        changed: changed_names(&before, &after),
        data: Document::of(&after)?,
    })])
}

/// Limits the depth to which merging recurses; everything else about the patch is checked in its
/// result.
fn check_patch(patch: &Map<String, Value>) -> Result<(), Refusal> {
    let mut report = Report::default();
    check_free_object(patch, &Path::root("data"), &mut report);
    report.into_result()
}

fn changed_names(before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<String> {
    let removed = before.keys().filter(|name| !after.contains_key(*name));
    let set = after
        .iter()
        .filter(|(name, value)| before.get(*name) != Some(*value))
        .map(|(name, _)| name);
    let mut names: Vec<String> = removed.chain(set).cloned().collect();
    names.sort_unstable();
    names
}

fn not_found() -> Refusal {
    Refusal::not_found("instance_not_found", "there is no such instance")
}

#[cfg(test)]
#[path = "instance_tests.rs"]
mod tests;
