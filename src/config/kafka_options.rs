//! Options of librdkafka by name. Their names contain dots, which mean nested tables in a
//! configuration, and some options have two names. In each layer they are therefore flattened to
//! one full name per option before the layers are merged, so that the strongest layer wins.

use std::collections::BTreeMap;
use std::fmt;

use figment::value::{Dict, Value};
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::secret::{REDACTED, Secret};
use crate::store::adapters::kafka::options::{canonical, is_own};

/// Options of librdkafka by name. `Debug` and `Serialize` redact those that carry secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KafkaOptions(pub BTreeMap<String, String>);

impl KafkaOptions {
    fn is_secret(name: &str) -> bool {
        [
            "password",
            "secret",
            "pem",
            "token",
            "jaas",
            "oauthbearer.config",
        ]
        .iter()
        .any(|part| name.contains(part))
    }

    fn shown(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| {
            let secret = Self::is_secret(name);
            (name.as_str(), if secret { REDACTED } else { value })
        })
    }
}

impl fmt::Debug for KafkaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.shown()).finish()
    }
}

impl Serialize for KafkaOptions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.shown() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for KafkaOptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OptionsVisitor)
    }
}

struct OptionsVisitor;

impl<'de> Visitor<'de> for OptionsVisitor {
    type Value = KafkaOptions;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of librdkafka options")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<KafkaOptions, A::Error> {
        let mut options = BTreeMap::new();
        // Read as secrets, so that numbers and booleans are accepted too and no error shows a
        // value.
        while let Some((name, value)) = map.next_entry::<String, Secret>()? {
            options.insert(name, value.expose().to_owned());
        }
        Ok(KafkaOptions(options))
    }
}

/// Flattens the options in a layer to full names. Two names of one option in the same layer, and
/// names that are refused, are left as they are, so that validation reports them.
pub(super) fn flatten(layer: &mut Dict) {
    let Some(Value::Dict(_, kafka)) = layer.get_mut("kafka") else {
        return;
    };
    let Some(Value::Dict(_, options)) = kafka.get_mut("options") else {
        return;
    };
    let mut whole = Dict::new();
    collect("", std::mem::take(options), &mut whole);
    let names: Vec<String> = whole.keys().cloned().collect();
    for name in &names {
        let one = canonical(name);
        let alone = names.iter().filter(|n| canonical(n) == one).count() == 1;
        if one != name
            && alone
            && !is_own(name)
            && let Some(value) = whole.remove(name)
        {
            whole.insert(one.to_owned(), value);
        }
    }
    *options = whole;
}

fn collect(prefix: &str, table: Dict, whole: &mut Dict) {
    for (name, value) in table {
        let name = format!("{prefix}{name}");
        match value {
            Value::Dict(_, inner) => collect(&format!("{name}."), inner, whole),
            value => {
                whole.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_carry_secrets_are_redacted_and_others_are_not() {
        let options = KafkaOptions(BTreeMap::from([
            ("sasl.password".to_owned(), "hunter2".to_owned()),
            ("sasl.username".to_owned(), "me".to_owned()),
        ]));
        for shown in [
            format!("{options:?}"),
            serde_json::to_string(&options).unwrap(),
        ] {
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(shown.contains("me"), "{shown}");
        }
    }
}
