//! Shapes for the OpenAPI document of what other modules own: they serialise themselves and know
//! nothing of OpenAPI. Nothing here is ever built.
#![allow(dead_code, reason = "described, never built")]

use serde::Serialize;
use utoipa::ToSchema;

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
    /// Ask with this for what follows; null at the end.
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
    /// The larger story it belongs to.
    correlationid: String,
    /// Who caused it.
    actor: String,
    /// Schema version of `data`.
    schemaversion: u32,
    /// The client's idempotency key.
    idempotencykey: Option<String>,
    /// Hash of the request that came with the key.
    requesthash: Option<String>,
    /// A caller's remarks: the text of a JSON object.
    metadata: Option<String>,
    /// The content.
    #[schema(value_type = Object)]
    data: (),
    /// Where it lies: `partition/offset/index`.
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
    /// Ask with this for what follows; of the feed of everything it is always there.
    next_cursor: Option<String>,
}

/// One condition.
#[derive(ToSchema)]
pub struct Filter {
    /// `id`, `version`, `created_at`, `updated_at`, or a property's path, `address.city`.
    #[schema(example = "year")]
    field: String,
    /// `eq`, `ne`, `gt`, `gte`, `lt`, `lte`, `in`, `contains`, `starts_with` or `exists`.
    #[schema(example = "gte")]
    op: String,
    /// What to compare with: a list for `in`; may be left out for `exists`, where it means true.
    #[schema(value_type = Option<Value>)]
    value: (),
}

/// What to look for; every part may be left out.
#[derive(ToSchema)]
pub struct InstanceQuery {
    /// All must hold, at most 50.
    filters: Option<Vec<Filter>>,
    /// At most 8 fields, most significant first; `-` before one sorts it descending.
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

/// A dependency as last seen.
#[derive(ToSchema)]
pub struct Dependency {
    /// `unknown`, `up` or `down`.
    state: String,
    /// Smoothed time of a successful call, in milliseconds.
    latency_ms: f64,
    /// Since when it is in this state.
    #[schema(value_type = String, format = DateTime)]
    since: (),
}

/// The dependencies as last seen.
#[derive(ToSchema)]
pub struct Dependencies {
    s3: Dependency,
    postgres: Dependency,
    kafka: Dependency,
}

/// How the service is.
#[derive(ToSchema)]
pub struct Health {
    /// `ok`, `degraded` (serves writes, but something lags behind) or `unavailable`.
    status: String,
    migration_mode: Mode,
    /// Which store leads.
    lead: Lead,
    /// Since which hand-off.
    epoch: u64,
    dependencies: Dependencies,
    /// Version of the program.
    version: String,
}

/// An actor and those below it.
#[derive(ToSchema)]
#[schema(no_recursion)]
pub struct Actor {
    /// Where it stands, for example `event_store/2`.
    path: String,
    /// Last part of the path.
    name: String,
    /// What it is.
    kind: String,
    /// `running`, `backoff`, `stopped` or `escalated`.
    state: String,
    /// How often it was restarted.
    restarts: u64,
    /// Why it was restarted last: `cause`, `message`, `at`.
    #[schema(value_type = Option<Object>)]
    last_failure: (),
    /// How often it was run; grows while it lives.
    polls: u64,
    /// Actors below it.
    children: Vec<Actor>,
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
    /// Offset after the last commit taken into the outbox.
    watermark: u64,
    /// Offset before which every event was delivered.
    delivered: u64,
    /// Commits not yet taken in, where the log's head is known.
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
    /// Rows the broker will never take.
    dead_letters: u64,
    /// Each partition that was ever taken in.
    partitions: Vec<PartitionDelivery>,
}

/// A row of the outbox that the broker will never take.
#[derive(ToSchema)]
pub struct DeadLetter {
    /// Names it for requeue and discard.
    id: i64,
    /// Where the event lies.
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
    /// The offset after the last commit taken in.
    next_offset: u64,
    /// Commits not yet taken in.
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
    /// How far it is.
    partitions: Vec<PartitionProgress>,
    /// Commits not yet taken in, of all partitions.
    lag_commits: u64,
    /// Events it could not take in and parked.
    parked_events: u64,
    /// How far the rebuild is, while there is one: `done`, `total`, `rate`, `eta_seconds`.
    #[schema(value_type = Option<Object>)]
    rebuild: (),
}
