//! `[migration.sources.NAME]`: other event stores whose events may be imported.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::duration;
use super::postgres::ConnectionString;
use super::problems::Problems;
use crate::domain::ids::{EventType, StreamType};
use crate::import::presets::{Known, Preset};
use crate::import::spec::{
    BinaryPolicy, Columns, FirstVersion, MAX_EVENT_BYTES, SourceSpec, is_qualified_table,
};
use crate::store::adapters::postgres::PostgresSettings;
use crate::store::adapters::postgres::connection::Purpose;
use crate::store::adapters::postgres::connection::environment::Environment;

/// Limits the name of a source, which is stored in every event's metadata.
const MAX_NAME: usize = 50;

/// Limits the prefix, so that room is left for the stream type itself.
const MAX_PREFIX: usize = 20;

/// One source. What a preset knows need not be said; what is said wins, and an empty text takes a
/// column of the preset away.
///
/// ```toml
/// [migration.sources.shop]
/// preset = "message-db"
/// url = "postgres://reader:…@db.example/shop"
/// stream_type_prefix = "shop_"
/// ```
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourceConfig {
    /// The tool that wrote it.
    pub preset: Option<Preset>,
    /// Address and credentials. Read access is enough.
    pub url: Option<ConnectionString>,
    /// The table with its schema, as in SQL.
    pub table: Option<String>,
    /// SQL that joins more tables to the row `e`.
    pub join: Option<String>,
    /// SQL condition: rows that are events.
    pub filter: Option<String>,
    /// Global position: the exact name of a column or an SQL expression of `e`, like all that follow.
    pub order: Option<String>,
    /// `category-id` in one text.
    pub stream_name: Option<String>,
    /// Type of the stream.
    pub stream_type: Option<String>,
    /// Id of the stream.
    pub stream_id: Option<String>,
    /// Number in the stream. Without one (`""` takes a preset's away) events are numbered in the
    /// order of their positions.
    pub version: Option<String>,
    /// Id of the event. It is kept even where the source uses one twice; take it away (`""`) where
    /// consumers go by it alone.
    pub event_id: Option<String>,
    /// Type of the event.
    pub event_type: Option<String>,
    /// Version of the data's schema.
    pub schema_version: Option<String>,
    /// Content.
    pub data: Option<String>,
    /// Metadata of the event.
    pub metadata: Option<String>,
    /// When it happened.
    pub time: Option<String>,
    /// JSON pointer to the time in the data, where there is no column for it.
    pub time_pointer: Option<String>,
    /// Number of a stream's first event: 0 or 1.
    pub version_base: Option<i64>,
    /// What a stream may begin with: its first version (`base`), or whatever is there first (`any`),
    /// which becomes version 1 with us.
    pub first_version: Option<FirstVersion>,
    /// Type of streams that have none.
    pub default_stream_type: Option<String>,
    /// Put before every stream type.
    pub stream_type_prefix: Option<String>,
    /// What to do with data that are bytes and not JSON: `park` or `wrap`.
    pub binary: Option<BinaryPolicy>,
    /// Whether bytes that were compressed with gzip or zlib are unpacked.
    pub decompress: bool,
    /// How long a row may come after its position was drawn, where locks do not show it.
    #[serde(
        serialize_with = "write_lag",
        deserialize_with = "read_lag",
        skip_serializing_if = "Option::is_none"
    )]
    pub lag: Option<Duration>,
    /// Stream types by foreign name, where the derived name does not suit.
    pub stream_types: BTreeMap<String, String>,
    /// Event types by foreign name, where the derived name does not suit.
    pub event_types: BTreeMap<String, String>,
}

fn write_lag<S: Serializer>(lag: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match lag {
        Some(lag) => duration::serialize(lag, serializer),
        None => serializer.serialize_none(),
    }
}

fn read_lag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration::deserialize(deserializer).map(Some)
}

impl SourceConfig {
    fn known(&self) -> Known {
        self.preset.map(Preset::known).unwrap_or_default()
    }

    /// The source as described by preset and settings together.
    pub fn spec(&self, name: &str) -> SourceSpec {
        let known = self.known();
        let said = |own: &Option<String>, preset: Option<String>| {
            own.clone().or(preset).filter(|text| !text.is_empty())
        };
        let preset = known.columns;
        let columns = Columns {
            order: said(&self.order, preset.order),
            stream_name: said(&self.stream_name, preset.stream_name),
            stream_type: said(&self.stream_type, preset.stream_type),
            stream_id: said(&self.stream_id, preset.stream_id),
            version: said(&self.version, preset.version),
            event_id: said(&self.event_id, preset.event_id),
            event_type: said(&self.event_type, preset.event_type),
            schema_version: said(&self.schema_version, preset.schema_version),
            data: said(&self.data, preset.data),
            metadata: said(&self.metadata, preset.metadata),
            time: said(&self.time, preset.time),
        };
        let text = |text: Option<&'static str>| text.map(str::to_owned);
        let mut spec = SourceSpec {
            name: name.to_owned(),
            table: said(&self.table, text(known.table)).unwrap_or_default(),
            columns,
            join: said(&self.join, text(known.join)),
            filter: said(&self.filter, None),
            version_base: self.version_base.unwrap_or(known.version_base),
            first_version: self.first_version.unwrap_or_default(),
            default_stream_type: said(&self.default_stream_type, text(known.default_stream_type)),
            stream_type_prefix: self.stream_type_prefix.clone().unwrap_or_default(),
            stream_types: self.stream_types.clone(),
            event_types: self.event_types.clone(),
            time_pointer: said(&self.time_pointer, text(known.time_pointer)),
            binary: self.binary.unwrap_or(known.binary),
            decompress: self.decompress,
            max_event_bytes: MAX_EVENT_BYTES,
            lag: self.lag.unwrap_or(known.lag),
        };
        if self.preset == Some(Preset::Eventsourcing) && spec.default_stream_type.is_none() {
            // A table holds one application and is named after it.
            let table = spec.table_name();
            let application = table.strip_suffix("_events").unwrap_or(table);
            spec.default_stream_type = Some(application.to_owned());
        }
        spec
    }

    /// Settings of a client of its database. What `url` leaves open comes from `environment`.
    pub fn settings(&self, environment: &Environment) -> PostgresSettings {
        let url = self.url.as_ref().map(|url| url.expose().to_owned());
        PostgresSettings {
            url: url.unwrap_or_default(),
            environment: environment.clone(),
            ..PostgresSettings::default()
        }
    }

    fn check(&self, name: &str, problems: &mut Problems, environment: &Environment) {
        let key = |field: &str| format!("migration.sources.{name}.{field}");
        match &self.url {
            None => problems.add(key("url"), "is required"),
            Some(_) => {
                if let Err(refused) = self.settings(environment).connection(Purpose::Source) {
                    problems.add(key("url"), refused.to_string());
                }
            }
        }
        let spec = self.spec(name);
        if spec.table.is_empty() {
            problems.add(key("table"), "is required: the table with its schema");
        } else if !is_qualified_table(&spec.table) {
            problems.add(
                key("table"),
                "must be a table's name with its schema, such as public.events",
            );
        }
        let columns = &spec.columns;
        if columns.stream_name.is_some() {
            for (field, column) in [
                ("stream_type", &columns.stream_type),
                ("stream_id", &columns.stream_id),
            ] {
                if column.is_some() {
                    problems.add(key(field), "must not be given beside stream_name");
                }
            }
        } else if columns.stream_id.is_none() {
            problems.add(key("stream_id"), "is required, or stream_name");
        }
        if columns.stream_name.is_none()
            && columns.stream_type.is_none()
            && spec.default_stream_type.is_none()
        {
            problems.add(
                key("stream_type"),
                "is required, or default_stream_type for all streams",
            );
        }
        if columns.version.is_none() && columns.order.is_none() {
            let message = "is required, or order, by which events are numbered without it";
            problems.add(key("version"), message);
        }
        if columns.version.is_none() && spec.first_version == FirstVersion::Any {
            let message = "says nothing without version: events are numbered from 1 then";
            problems.add(key("first_version"), message);
        }
        for (field, column) in [("event_type", &columns.event_type), ("data", &columns.data)] {
            if column.is_none() {
                problems.add(key(field), "is required");
            }
        }
        if columns.order.is_none()
            && columns.stream_type.is_some()
            && spec.default_stream_type.is_some()
        {
            problems.add(
                key("default_stream_type"),
                "cannot be used without order: streams without a type would not be read",
            );
        }
        if !(0..=1).contains(&spec.version_base) {
            problems.add(key("version_base"), "must be 0 or 1");
        }
        let prefix = &spec.stream_type_prefix;
        if !prefix.is_empty() && (prefix.len() > MAX_PREFIX || StreamType::new(prefix).is_err()) {
            let message =
                format!("must match [a-z][a-z0-9_-]* and have at most {MAX_PREFIX} bytes");
            problems.add(key("stream_type_prefix"), message);
        }
        for (foreign, own) in &spec.stream_types {
            if let Err(e) = StreamType::new(own) {
                problems.add(key(&format!("stream_types.{foreign}")), e.to_string());
            }
        }
        for (foreign, own) in &spec.event_types {
            if let Err(e) = EventType::new(own) {
                problems.add(key(&format!("event_types.{foreign}")), e.to_string());
            }
        }
        if let Some(pointer) = &spec.time_pointer
            && !pointer.starts_with('/')
        {
            let message = "must be a JSON pointer, such as /meta/time";
            problems.add(key("time_pointer"), message);
        }
    }
}

/// Checks all sources.
pub(super) fn check(
    sources: &BTreeMap<String, SourceConfig>,
    problems: &mut Problems,
    environment: &Environment,
) {
    for (name, source) in sources {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(fits) {
            let message = format!(
                "a source's name has 1 to {MAX_NAME} lower-case letters, digits, `_` and `-`"
            );
            problems.add(format!("migration.sources.{name}"), message);
        }
        source.check(name, problems, environment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(toml: &str) -> Vec<(String, String)> {
        let sources: BTreeMap<String, SourceConfig> = toml::from_str(toml).unwrap();
        let mut problems = Problems::default();
        check(&sources, &mut problems, &Environment::default());
        let problems = problems.0.into_iter();
        problems.map(|p| (p.key, p.message)).collect()
    }

    #[test]
    fn a_preset_and_an_address_are_enough() {
        for preset in ["message-db", "marten", "emmett", "postgres-es"] {
            let toml = format!("[shop]\npreset = \"{preset}\"\nurl = \"postgres://u@h/d\"");
            assert_eq!(problems(&toml), [], "{preset}");
        }
        let python = "[shop]\npreset = \"eventsourcing\"\nurl = \"postgres://u@h/d\"\n\
                      table = \"public.dogs_events\"";
        assert_eq!(problems(python), []);
        let sources: BTreeMap<String, SourceConfig> = toml::from_str(python).unwrap();
        let spec = sources["shop"].spec("shop");
        assert_eq!(spec.default_stream_type.as_deref(), Some("dogs"));
    }

    #[test]
    fn what_is_said_wins_and_an_empty_text_takes_away() {
        let toml = "[shop]\npreset = \"message-db\"\nurl = \"postgres://u@h/d\"\n\
                    table = \"old.messages\"\nmetadata = \"\"\ntime = \"happened\"\nlag = \"2s\"";
        let sources: BTreeMap<String, SourceConfig> = toml::from_str(toml).unwrap();
        let spec = sources["shop"].spec("shop");
        assert_eq!(spec.table, "old.messages");
        assert_eq!(spec.columns.metadata, None);
        assert_eq!(spec.columns.time.as_deref(), Some("happened"));
        assert_eq!(spec.columns.data.as_deref(), Some("data"));
        assert_eq!((spec.version_base, spec.lag), (0, Duration::from_secs(2)));
    }

    #[test]
    fn everything_that_is_wrong_is_told_with_its_key() {
        let toml = "[Shop]\ntable = \"events\"\nversion_base = 2\nstream_type_prefix = \"X\"\n\
                    time_pointer = \"a\"\n[Shop.stream_types]\nA = \"B\"\n\
                    [two]\nurl = \"postgres://u:geheim@h:x/d\"\npreset = \"message-db\"\n\
                    stream_id = \"id\"";
        let found = problems(toml);
        let keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
        let field = |f: &str| format!("migration.sources.Shop.{f}");
        for expected in [
            "migration.sources.Shop".to_owned(),
            field("url"),
            field("table"),
            field("stream_id"),
            field("stream_type"),
            field("version"),
            field("event_type"),
            field("data"),
            field("version_base"),
            field("stream_type_prefix"),
            field("stream_types.A"),
            field("time_pointer"),
            "migration.sources.two.url".to_owned(),
            "migration.sources.two.stream_id".to_owned(),
        ] {
            assert!(keys.contains(&expected.as_str()), "{expected}: {keys:?}");
        }
        assert!(found.iter().all(|(_, message)| !message.contains("geheim")));
    }
}
