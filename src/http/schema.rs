//! Types for the OpenAPI document that describe what other modules own: those serialise themselves
//! and know nothing of OpenAPI. These are never constructed.
#![allow(dead_code, reason = "described, never built")]

mod health;

use serde::Serialize;
use utoipa::ToSchema;

pub use self::health::{Dependencies, Dependency, Disk, Halted, Health};

/// One thing wrong with one field.
#[derive(ToSchema)]
pub struct Violation {
    /// Path of the field, for example `data.address.zip`.
    #[schema(example = "data.address.zip")]
    field: String,
    /// Stable code, for example `required`, `type`, `pattern`.
    #[schema(example = "required")]
    code: String,
    /// What is wrong and what would be right.
    message: String,
}

/// The mode of the migration.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = MigrationMode)]
pub enum Mode {
    /// PostgreSQL alone.
    Legacy,
    /// Both stores, one of them leading.
    DualWrite,
    /// S3 alone.
    S3Only,
}

/// A store of events.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = Store)]
pub enum Lead {
    /// PostgreSQL.
    Postgres,
    /// S3.
    S3,
}

/// A resource as it stands.
#[derive(ToSchema)]
pub struct Resource {
    /// Database name, class id or instance id.
    id: String,
    /// Version of its stream.
    version: u64,
    /// Its content: the database's description, the class's definition, the instance's properties.
    #[schema(value_type = Object)]
    data: (),
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: (),
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: (),
}

/// A page of resources.
#[derive(ToSchema)]
pub struct ResourcePage {
    /// The resources.
    items: Vec<Resource>,
    /// How many there are in all, where that is known.
    total: Option<u64>,
    /// Cursor of the next page; null at the end.
    next_cursor: Option<String>,
}

/// An event: its CloudEvents envelope as stored, plus `position`.
#[derive(ToSchema)]
pub struct Event {
    #[schema(example = "1.0")]
    specversion: String,
    /// The event's id.
    #[schema(value_type = String, format = "uuid")]
    id: (),
    #[schema(example = "/oms")]
    source: String,
    /// Its type, for example `InstanceCreated`.
    r#type: String,
    /// The stream: `type/id`.
    subject: String,
    /// When it was recorded.
    #[schema(value_type = String, format = DateTime)]
    time: (),
    datacontenttype: String,
    /// Type of its stream.
    streamtype: String,
    /// Id of its stream: percent-encoded components joined by `/`.
    streamid: String,
    /// Its number in its stream, from 1.
    streamversion: u64,
    /// The command that caused it.
    #[schema(value_type = String, format = "uuid")]
    commandid: (),
    /// Correlates the events that one client action caused: the client's trace id, else the
    /// request's id.
    correlationid: String,
    /// Who caused it.
    actor: String,
    /// Schema version of `data`.
    schemaversion: u32,
    /// The client's idempotency key.
    idempotencykey: Option<String>,
    /// Hash of the request that came with the key.
    requesthash: Option<String>,
    /// The caller's metadata: the text of a JSON object.
    metadata: Option<String>,
    /// The content.
    #[schema(value_type = Object)]
    data: (),
    /// Its position in the log: `partition/offset/index`.
    #[schema(example = "3/1045/2")]
    position: String,
}

/// A page of events.
#[derive(ToSchema)]
pub struct EventPage {
    /// The events.
    items: Vec<Event>,
    /// How many there are in all, where that is known.
    total: Option<u64>,
    /// Cursor of the next page; the feed of all events always has one.
    next_cursor: Option<String>,
}

/// A condition on a field.
#[derive(ToSchema)]
pub struct Filter {
    /// `id`, `version`, `created_at`, `updated_at`, or a property's path, `address.city`.
    #[schema(example = "year")]
    field: String,
    /// `eq`, `ne`, `gt`, `gte`, `lt`, `lte`, `in`, `contains`, `starts_with` or `exists`.
    #[schema(example = "gte")]
    op: String,
    /// The value to compare with: a list for `in`; may be left out for `exists`, where it means
    /// true.
    #[schema(value_type = Option<Value>)]
    value: (),
}

/// A query; every part may be left out.
#[derive(ToSchema)]
pub struct InstanceQuery {
    /// All must hold, at most 50.
    filters: Option<Vec<Filter>>,
    /// At most 8 fields, most significant first; `-` before one sorts it descending. Also taken is
    /// `{"field": "year", "descending": true}`.
    #[schema(example = json!(["-year", "title"]))]
    sort: Option<Vec<String>>,
    /// Properties to give back, by path; all when absent.
    select: Option<Vec<String>>,
    /// Items on the page.
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// `next_cursor` of the page before, asked with the same filters and sort.
    cursor: Option<String>,
}

/// An actor and those below it.
#[derive(ToSchema)]
#[schema(no_recursion)]
pub struct Actor {
    /// Its path, for example `event_store/2`.
    path: String,
    /// Last part of the path.
    name: String,
    /// What it is.
    kind: String,
    /// `running`, `backoff`, `stopped`, `escalated` or `stuck`.
    state: String,
    /// How it is stuck: `blocked` (it blocks its thread), `not_run` (woken and not run) or
    /// `waiting` (it owes answers and has not been run for long).
    stuck: Option<String>,
    /// How often it failed and was restarted.
    restarts: u64,
    /// How often it was rebuilt with another mailbox.
    rebuilds: u64,
    /// Why it was restarted last: `cause`, `message`, `at`.
    #[schema(value_type = Option<Object>)]
    last_failure: (),
    /// How often it was run; grows while it lives.
    polls: u64,
    /// Calls it has not answered.
    calls_in_flight: u32,
    /// Smoothed time that a message waits in the mailbox, in milliseconds.
    mailbox_wait_ms: f64,
    /// Actors below it.
    children: Vec<Actor>,
    /// How many actors below it are not in `children`; absent if none.
    children_omitted: Option<usize>,
}

/// The supervision tree.
#[derive(ToSchema)]
pub struct ActorTree {
    root: Actor,
}

/// How a partition's delivery stands.
#[derive(ToSchema)]
pub struct PartitionDelivery {
    partition: u16,
    /// Offset after the last commit written to the outbox.
    watermark: u64,
    /// Offset before which every event was delivered.
    delivered: u64,
    /// Commits not written to the outbox yet, if the head of the log is known.
    lag: Option<u64>,
    /// The node that publishes it.
    lease_owner: Option<String>,
    /// Until when.
    #[schema(value_type = Option<String>, format = DateTime)]
    lease_until: (),
}

/// Outbox depth, age, watermarks.
#[derive(ToSchema)]
pub struct Delivery {
    /// Rows waiting.
    depth: u64,
    /// Age of the oldest row waiting, in seconds.
    oldest_seconds: Option<f64>,
    /// Number of rows that the broker refused for good.
    dead_letters: u64,
    /// Each partition that the outbox has ever recorded.
    partitions: Vec<PartitionDelivery>,
    /// Where delivery is halted, as far as this process publishes; absent if nowhere.
    halted: Option<Vec<Halted>>,
}

/// A row of the outbox that the broker refused for good.
#[derive(ToSchema)]
pub struct DeadLetter {
    /// Its id, for requeue and discard.
    id: i64,
    /// Position of the event.
    position: String,
    /// The event.
    #[schema(value_type = String, format = "uuid")]
    event_id: (),
    /// Its stream, `type/id`.
    stream: String,
    /// Its number in its stream.
    version: u64,
    /// The topic that refused it.
    topic: String,
    /// How often it was tried.
    attempts: u32,
    /// What the broker said last.
    last_error: String,
    /// When it came into the outbox.
    #[schema(value_type = String, format = DateTime)]
    created: (),
    /// When it was given up.
    #[schema(value_type = String, format = DateTime)]
    died: (),
}

/// How far a projection is in one partition.
#[derive(ToSchema)]
pub struct PartitionProgress {
    partition: u16,
    /// The offset after the last commit applied.
    next_offset: u64,
    /// Commits not applied yet.
    lag_commits: u64,
}

/// A projection.
#[derive(ToSchema)]
pub struct Projection {
    name: String,
    /// `live` or `rebuilding`.
    state: String,
    /// The generation that queries read.
    generation: i64,
    /// Its progress.
    partitions: Vec<PartitionProgress>,
    /// Commits not applied yet, over all partitions.
    lag_commits: u64,
    /// Events that could not be applied and were parked.
    parked_events: u64,
    /// How far the rebuild is, while there is one: `done`, `total`, `rate`, `eta_seconds`.
    #[schema(value_type = Option<Object>)]
    rebuild: (),
}

/// The state of one partition in the migration.
#[derive(ToSchema)]
pub struct PartitionStatus {
    partition: u16,
    /// `legacy`, `dual_write/postgres`, `dual_write/s3` or `s3_only`; during a hand-off the one it
    /// leaves.
    stage: Option<String>,
    /// Which store leads it.
    lead: Option<Lead>,
    /// The epoch of its lead: the number of hand-offs so far.
    epoch: u64,
    /// The step of a hand-off; `steady` when none is under way.
    step: Option<String>,
    /// Whether its writes wait for the end of a hand-off.
    moving: bool,
    /// Since when it is in its stage.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: (),
    /// Offset after its last commit.
    next_offset: u64,
    /// In `dual_write`: the offset before which the store that does not lead has everything.
    mirrored: Option<u64>,
    /// Commits that the store that does not lead lacks.
    unmirrored: Option<u64>,
    /// Whether answers wait for that store.
    in_step: Option<bool>,
}

/// The state of the migration.
#[derive(ToSchema)]
pub struct Migration {
    /// The mode of the partition that is furthest behind.
    mode: Mode,
    /// The store that leads it.
    lead: Lead,
    /// Its epoch.
    epoch: u64,
    /// Its stage.
    stage: Option<String>,
    /// Share of the partitions that are further, 0 to 1.
    share_ahead: f64,
    /// Whether writes of some partition wait for the end of a hand-off.
    moving: bool,
    /// Each partition.
    partitions: Vec<PartitionStatus>,
    /// Reads of this process served by the other store than the first.
    fallback_reads: u64,
    /// The switch under way, or the last one of this process.
    switch: Option<Switch>,
}

/// A gate of an edge.
#[derive(ToSchema)]
pub struct Gate {
    /// Its stable name.
    name: String,
    /// The condition, for a person.
    asks: String,
    /// `pass`, `fail` or `skipped`.
    state: String,
    /// The measured figure; null if it could not be measured.
    #[schema(value_type = Option<Object>)]
    figure: (),
    /// What it must be: `at_most`, `at_least` or `exactly`.
    #[schema(value_type = Object)]
    threshold: (),
    /// `confidence` (skipped by `force`) or `data`.
    kind: String,
}

/// An edge on the way, with what its gates say.
#[derive(ToSchema)]
pub struct PlannedEdge {
    /// `a`, `b` or `c`.
    edge: String,
    /// `forward` or `backward`.
    direction: String,
    /// The stage it leaves.
    from: String,
    /// The stage it reaches.
    to: String,
    gates: Vec<Gate>,
}

/// An edge of a switch.
#[derive(ToSchema)]
pub struct SwitchEdge {
    /// `a`, `b` or `c`.
    edge: String,
    /// `forward` or `backward`.
    direction: String,
    /// The stage it leaves.
    from: String,
    /// The stage it reaches.
    to: String,
    /// The partitions that walk it.
    partitions: Vec<u16>,
    /// `walking`, `done`, `refused`, `undone` or `failed`.
    state: String,
    gates: Vec<Gate>,
    #[schema(value_type = String, format = DateTime)]
    begun: (),
    #[schema(value_type = Option<String>, format = DateTime)]
    ended: (),
    /// For how long writes waited, in milliseconds, by partition.
    #[schema(value_type = Object)]
    pause_ms: (),
}

/// A request to change the stage, and its outcome.
#[derive(ToSchema)]
pub struct Switch {
    #[schema(value_type = String, format = "uuid")]
    id: (),
    /// The stage asked for.
    goal: String,
    partitions: Vec<u16>,
    /// Who ordered it.
    by: String,
    reason: String,
    /// Whether gates of confidence were to be skipped.
    force: bool,
    /// Whether the service ordered it by itself.
    automatic: bool,
    #[schema(value_type = String, format = DateTime)]
    begun: (),
    #[schema(value_type = Option<String>, format = DateTime)]
    ended: (),
    /// `walking`, `done`, `refused`, `undone` or `failed`.
    state: String,
    /// Why it ended early.
    error: Option<String>,
    edges: Vec<SwitchEdge>,
}

/// An order to bring partitions to another stage.
#[derive(ToSchema)]
pub struct SwitchOrder {
    /// The mode to reach. One that is further off is walked to edge by edge.
    mode: Mode,
    /// Of `dual_write`, which store is to lead; when absent the one that leads now.
    lead: Option<Lead>,
    /// Only these partitions.
    partitions: Option<Vec<u16>>,
    /// Only so many of the partitions, 1 to 100; those already there count.
    percent: Option<u8>,
    /// Why; recorded.
    #[schema(min_length = 1, max_length = 1000)]
    reason: String,
    /// Skip gates of confidence (never those of data); recorded.
    #[schema(default = false)]
    force: Option<bool>,
    /// Only say what the gates say.
    #[schema(default = false)]
    dry_run: Option<bool>,
}

/// The answer to a request to switch.
#[derive(ToSchema)]
pub struct SwitchAnswer {
    /// `done`, `planned` or `walking`.
    status: String,
    /// Whether the walk could begin now.
    may_begin: Option<bool>,
    /// The edges on the way.
    edges: Option<Vec<PlannedEdge>>,
    switch: Option<Switch>,
    migration: Migration,
}

/// Why a request to switch was not carried out.
#[derive(ToSchema)]
pub struct SwitchProblem {
    r#type: String,
    title: String,
    status: u16,
    /// `gates_failed`, `switch_under_way`, `switch_undone` or `switch_failed`.
    code: String,
    detail: String,
    /// The edges on the way, with what their gates say.
    edges: Option<Vec<PlannedEdge>>,
    switch: Option<Switch>,
}

/// A page of the history of switches.
#[derive(ToSchema)]
pub struct SwitchPage {
    items: Vec<Switch>,
    /// Cursor of the next page; null at the end.
    next_cursor: Option<String>,
}
