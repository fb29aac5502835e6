//! A random history, with what queries must see at its end worked out in the plainest way: one
//! event after the other, in the order they happened.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

use super::world::Writer;

const DATABASES: [&str; 2] = ["films", "books"];
const CLASSES: [&str; 2] = ["Film", "Person"];

/// A thing that exists.
struct Thing {
    incarnation: u64,
    seen: Value,
}

/// See the module.
pub struct History {
    rng: StdRng,
    versions: BTreeMap<String, u64>,
    databases: BTreeMap<String, Thing>,
    classes: BTreeMap<(String, String), Thing>,
    instances: BTreeMap<(String, String, String), Thing>,
}

impl History {
    pub fn new() -> Self {
        let seed = rand::rng().random();
        println!("seed {seed}");
        Self {
            rng: StdRng::seed_from_u64(seed),
            versions: BTreeMap::new(),
            databases: BTreeMap::new(),
            classes: BTreeMap::new(),
            instances: BTreeMap::new(),
        }
    }

    /// Lets `events` more events happen, in commits of several.
    pub async fn go_on(&mut self, writer: &mut Writer, events: usize) {
        for _ in 0..events {
            self.event(writer);
            if self.rng.random_bool(0.2) {
                writer.commit().await;
            }
        }
        writer.commit().await;
    }

    /// What queries must see.
    pub fn expected(&self) -> Value {
        let mut all = Map::new();
        for (db, thing) in &self.databases {
            all.insert(db.clone(), thing.seen.clone());
        }
        for ((db, class), thing) in &self.classes {
            all.insert(format!("{db}/{class}"), thing.seen.clone());
        }
        for ((db, class, id), thing) in &self.instances {
            all.insert(format!("{db}/{class}/{id}"), thing.seen.clone());
        }
        Value::Object(all)
    }

    fn next_version(&mut self, key: &str) -> u64 {
        let version = self.versions.entry(key.to_owned()).or_default();
        *version += 1;
        *version
    }

    fn event(&mut self, writer: &mut Writer) {
        let db = (*DATABASES.choose(&mut self.rng).expect("one")).to_owned();
        let class = (*CLASSES.choose(&mut self.rng).expect("one")).to_owned();
        let id = format!("é {}", self.rng.random_range(0..12));
        let rare = self.rng.random_bool(0.03);
        let Some(database) = self.databases.get(&db) else {
            let incarnation = self.next_version(&db);
            assert_eq!(writer.create_database(&db), incarnation);
            let data = json!({"description": format!("about {db}")});
            let seen = json!([incarnation, data, writer.now(), writer.now()]);
            self.databases.insert(db, Thing { incarnation, seen });
            return;
        };
        if rare && self.rng.random_bool(0.3) {
            self.next_version(&db);
            writer.delete_database(&db);
            self.databases.remove(&db);
            self.classes.retain(|(d, _), _| *d != db);
            self.instances.retain(|(d, ..), _| *d != db);
            return;
        }
        self.class_event(writer, db.clone(), class, id, database.incarnation, rare);
    }

    fn class_event(
        &mut self,
        writer: &mut Writer,
        db: String,
        class: String,
        id: String,
        database: u64,
        rare: bool,
    ) {
        let key = (db.clone(), class.clone());
        let Some(found) = self.classes.get(&key) else {
            let incarnation = self.next_version(&format!("{db}/{class}"));
            assert_eq!(writer.create_class(&db, &class, database), incarnation);
            let data = json!({"id": class, "label": class});
            let seen = json!([incarnation, data, writer.now(), writer.now()]);
            self.classes.insert(key, Thing { incarnation, seen });
            return;
        };
        let incarnation = found.incarnation;
        if rare && self.rng.random_bool(0.5) {
            self.next_version(&format!("{db}/{class}"));
            writer.class_event(&db, &class, "ClassDeleted", &json!({}));
            self.classes.remove(&key);
            self.instances
                .retain(|(d, c, _), _| (d, c) != (&db, &class));
        } else if rare {
            let version = self.next_version(&format!("{db}/{class}"));
            let definition = json!({"id": class, "label": version});
            let data = json!({"definition": definition});
            writer.class_event(&db, &class, "ClassUpdated", &data);
            let now = json!(writer.now());
            self.classes.entry(key).and_modify(|t| {
                t.seen = json!([version, definition, t.seen[2], now]);
            });
        } else {
            self.instance_event(writer, (db, class, id), incarnation);
        }
    }

    fn instance_event(
        &mut self,
        writer: &mut Writer,
        key: (String, String, String),
        incarnation: u64,
    ) {
        let (db, class, id) = &key;
        let at = (db.as_str(), class.as_str());
        let version = self.next_version(&format!("{db}/{class}/{id}"));
        let data = json!({"n": version, "tags": ["a", self.rng.random_range(0..9)]});
        let exists = self.instances.contains_key(&key);
        if !exists {
            writer.create(at, id, &data, incarnation);
            let seen = json!([version, data, writer.now(), writer.now()]);
            self.instances.insert(
                key,
                Thing {
                    incarnation: version,
                    seen,
                },
            );
        } else if self.rng.random_bool(0.25) {
            writer.delete(at, id);
            self.instances.remove(&key);
        } else {
            writer.update(at, id, &data);
            let now = json!(writer.now());
            self.instances.entry(key).and_modify(|t| {
                t.seen = json!([version, data, t.seen[2], now]);
            });
        }
    }
}
