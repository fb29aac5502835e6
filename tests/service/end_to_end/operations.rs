//! Every operation of the API is asked at least once, and its answer is what `docs/openapi.json` says.

use std::collections::BTreeSet;

use oms_testkit::service::contract::{self, Answer};
use oms_testkit::service::{PATIENCE, Service};
use serde_json::{Value, json};

use crate::OMS;

/// A story in which every operation has its place.
struct Story {
    service: Service,
    /// The operations that were done.
    done: BTreeSet<&'static str>,
    /// What was not as described.
    wrong: BTreeSet<String>,
}

impl Story {
    /// A request with these headers; its answer must have this status. Whether it is as described is
    /// noted.
    async fn ask_with(
        &mut self,
        headers: &[(&str, &str)],
        method: &str,
        path: &str,
        sent: Option<Value>,
        expected: u16,
    ) -> Value {
        let service = &self.service;
        let http = service.http.clone();
        let mut request = http.request(method.parse().expect("a method"), service.at(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(sent) = &sent {
            request = request.json(sent);
        }
        let answer = request.send().await.expect("an answer");
        let answer = Answer::read(answer).await.expect("a body");
        assert_eq!(answer.status, expected, "{method} {path}: {}", answer.body);
        match answer.check(method, path, sent.as_ref()) {
            Ok(Some(id)) if answer.status < 300 => {
                self.done.insert(id);
            }
            Ok(Some(_)) => {}
            Ok(None) => panic!("{method} {path} is no operation"),
            Err(why) => {
                self.wrong.insert(format!("{method} {path}: {why}"));
            }
        }
        serde_json::from_str(&answer.body).unwrap_or(Value::Null)
    }

    async fn ask(&mut self, method: &str, path: &str, sent: Option<Value>, status: u16) -> Value {
        self.ask_with(&[], method, path, sent, status).await
    }

    async fn get(&mut self, path: &str) -> Value {
        self.ask("GET", path, None, 200).await
    }

    async fn post(&mut self, path: &str, sent: Value, status: u16) -> Value {
        self.ask("POST", path, Some(sent), status).await
    }

    /// Asks until the answer is the one that is waited for.
    async fn until(&mut self, path: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let answer = self.get(path).await;
            if wanted(&answer) {
                return answer;
            }
            let late = std::time::Instant::now() > deadline;
            assert!(!late, "{path}: {answer}\n{}", self.service.log_tail());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Starts a job, looks at it as the last one and by its id, and waits for its end.
    async fn job(&mut self, kind: &str, order: Value) -> Value {
        let path = format!("/api/v1/admin/migration/{kind}");
        let job = self.post(&path, order, 202).await;
        let id = job["id"].as_str().expect("an id").to_owned();
        self.get(&path).await;
        let over = |job: &Value| ["done", "failed"].contains(&job["state"].as_str().unwrap_or(""));
        let job = self.until(&format!("{path}/{id}"), over).await;
        assert_eq!(job["state"], "done", "{job}");
        job
    }

    async fn ontology(&mut self) {
        let databases = "/api/v1/databases";
        let films = json!({"name": "films", "description": "all of them"});
        self.post(databases, films.clone(), 201).await;
        self.post(databases, films, 409).await;
        self.post(databases, json!({"name": "Films"}), 422).await;
        self.post(databases, json!({"name": "gone"}), 201).await;
        self.ask("DELETE", &format!("{databases}/gone"), None, 200)
            .await;
        self.ask("GET", &format!("{databases}/gone"), None, 404)
            .await;
        self.ask("GET", &format!("{databases}/G"), None, 400).await;
        self.ask("GET", &format!("{databases}?limit=0"), None, 400)
            .await;
        let db = format!("{databases}/films");
        self.get(&db).await;
        let known = [("if-none-match", "\"1\"")];
        self.ask_with(&known, "GET", &db, None, 304).await;
        self.get(&format!("{db}/history")).await;
        self.until(databases, |page| page["items"][0]["id"] == "films")
            .await;

        let classes = format!("{db}/classes");
        let class = |label: &str| {
            json!({
                "id": "Film", "label": label, "description": "A film.", "metadata": {"by": "ann"},
                "properties": [
                    {"name": "title", "type": "string", "label": "Title", "required": true,
                        "default": "?", "constraints": {"min_length": 1}},
                    {"name": "year", "type": "integer"}],
                "relationships": [{"predicate": "after", "target": "Film", "cardinality": "n:1",
                    "label": "follows", "inverse": "before"}],
            })
        };
        self.post(&classes, class("Film"), 201).await;
        let film = format!("{classes}/Film");
        self.ask("PUT", &film, Some(class("Movie")), 200).await;
        let old = [("if-match", "\"1\"")];
        self.ask_with(&old, "PUT", &film, Some(class("Movie")), 412)
            .await;
        self.get(&film).await;
        self.get(&format!("{film}/history")).await;
        self.post(
            &classes,
            json!({"id": "Gone", "label": "Gone", "abstract": true}),
            201,
        )
        .await;
        self.ask("DELETE", &format!("{classes}/Gone"), None, 200)
            .await;
        self.until(&classes, |page| page["items"][0]["version"] == 2)
            .await;

        let instances = format!("{film}/instances");
        let one = json!({"id": "f1", "data": {"title": "One", "year": 1999}, "metadata": {"n": 1}});
        let key = [("idempotency-key", "k")];
        for _ in 0..2 {
            self.ask_with(&key, "POST", &instances, Some(one.clone()), 201)
                .await;
        }
        let wrong = json!({"data": {"year": "1999"}});
        self.post(&instances, wrong, 422).await;
        let f1 = format!("{instances}/f1");
        let changed = self
            .ask("PATCH", &f1, Some(json!({"year": 2000})), 200)
            .await;
        let nothing_new = self
            .ask("PATCH", &f1, Some(json!({"year": 2000})), 200)
            .await;
        assert!(nothing_new["position"].is_null(), "{nothing_new}");
        let batch = json!({"operations": [
            {"op": "create", "id": "f2", "data": {"title": "Two"}, "metadata": {}},
            {"op": "update", "id": "f2", "data": {"year": 1}, "if_version": 1},
        ]});
        let batches = format!("{instances}/batch");
        self.post(&batches, batch, 200).await;
        let failing =
            json!({"operations": [{"op": "delete", "id": "f9"}, {"op": "delete", "id": "f2"}]});
        self.post(&batches, failing, 207).await;
        self.get(&format!("{f1}?at_version=1")).await;
        self.get(&format!("{f1}?consistency=strong")).await;
        self.ask("GET", &format!("{f1}?consistency=weak"), None, 400)
            .await;
        self.get(&format!("{f1}/history?limit=1")).await;
        let position = changed["position"].as_str().expect("a position").to_owned();
        let seen = [("x-min-position", position.as_str())];
        let query = json!({
            "filters": [{"field": "year", "op": "gte", "value": 2000}, {"field": "title", "op": "exists"}],
            "sort": ["-year", {"field": "title", "descending": true}, {"field": "id"}],
            "select": ["title"], "limit": 1,
        });
        let queries = format!("{instances}/query");
        let found = self
            .ask_with(&seen, "POST", &queries, Some(query), 200)
            .await;
        assert_eq!(found["items"][0]["id"], "f1");
        self.get(&format!("{instances}?sort=-year")).await;
        self.ask("DELETE", &f1, None, 200).await;

        let command = changed["command_id"].as_str().expect("an id");
        self.get(&format!("/api/v1/commands/{command}")).await;
        let commit = position.rsplit_once('/').expect("a position").0;
        self.get(&format!("/api/v1/log/{commit}")).await;
        self.ask("GET", "/api/v1/log/0/999999", None, 404).await;
    }

    async fn streams(&mut self) {
        let events = "/api/v1/streams/order/7/events";
        let append = json!({"events": [
            {"type": "OrderPlaced", "data": [1.50, null], "metadata": {"k": 1}, "schema_version": 3},
            {"type": "OrderPaid", "data": {}},
        ]});
        self.post(events, append.clone(), 201).await;
        let key = [("idempotency-key", "paid")];
        self.ask_with(&key, "POST", events, Some(append), 201).await;
        self.get(&format!("{events}?direction=backward&limit=3"))
            .await;
        let feed = self.get("/api/v1/events?limit=2").await;
        assert!(feed["next_cursor"].is_string(), "{feed}");
        self.ask("GET", "/api/v1/events?after=x", None, 400).await;
    }

    async fn operators(&mut self) {
        for path in ["/health", "/health/live", "/health/ready", "/metrics"] {
            self.get(path).await;
        }
        for path in ["me", "admin/service", "admin/metrics", "admin/actors"] {
            self.get(&format!("/api/v1/{path}")).await;
        }
        let actors = "/api/v1/admin/actors";
        let failpoints = format!("{actors}/failpoints");
        let point = json!({"name": "s3.get.before", "action": "delay", "times": 1, "delay_ms": 1});
        self.post(&failpoints, point, 202).await;
        self.get(&failpoints).await;
        let clock = json!({"offset_seconds": 0});
        self.ask("PUT", "/api/v1/admin/chaos/clock", Some(clock), 200)
            .await;
        let kill = json!({"path": "relay", "how": "panic"});
        self.post(&format!("{actors}/kill"), kill, 202).await;
        let nobody = json!({"path": "nobody", "how": "stop"});
        self.post(&format!("{actors}/kill"), nobody, 404).await;
        self.until(actors, |tree| {
            let below = tree["root"]["children"].as_array().expect("children");
            below.iter().any(|a| a["last_failure"].is_object())
        })
        .await;
        let rebuild = "/api/v1/admin/projections/ontology/rebuild";
        self.ask("POST", rebuild, None, 202).await;
        self.get("/api/v1/admin/projections").await;
        let trail = "/api/v1/admin/audit?limit=3";
        self.until(trail, |page| {
            page["items"].as_array().is_some_and(|i| i.len() == 3)
        })
        .await;
        self.dead_letters().await;
    }

    /// Of rows that the broker refused; it takes all of ours, so they are put there by hand.
    async fn dead_letters(&mut self) {
        let url = self.service.postgres_of_the_service();
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .expect("a connection");
        let connection = tokio::spawn(connection);
        client
            .batch_execute(
                "INSERT INTO oms.dead_letters (partition, commit_offset, idx, event_id, stream_type,
                     stream_id, version, topic, epoch, mode, start_byte, len_bytes, body, attempts,
                     last_error, created)
                 SELECT 0, 0, n, gen_random_uuid(), 'order', '7', 1, 'oms.stream', 1, 's3_only',
                     0, 2, '{}', 10, 'too large', now()
                 FROM generate_series(1000, 1001) n",
            )
            .await
            .expect("two rows");
        drop(client);
        connection.await.expect("ended").expect("in order");
        self.get("/api/v1/admin/outbox").await;
        let dead = "/api/v1/admin/outbox/dead";
        let letters = self.get(dead).await;
        for (i, action) in ["discard", "requeue"].iter().enumerate() {
            let path = format!("{dead}/{}/{action}", letters["items"][i]["id"]);
            self.ask("POST", &path, None, 202).await;
        }
        self.ask("POST", &format!("{dead}/1000/discard"), None, 404)
            .await;
    }

    /// From PostgreSQL alone to S3 alone, with every job on the way.
    async fn migration(&mut self) {
        let migration = "/api/v1/admin/migration";
        let mode = format!("{migration}/mode");
        let to = |mode: &str, lead: &str| json!({"mode": mode, "lead": lead, "reason": "a test"});
        self.get(migration).await;
        let mut dry = to("dual_write", "s3");
        dry["dry_run"] = true.into();
        self.post(&mode, dry, 200).await;
        self.post(&mode, to("s3_only", "postgres"), 422).await;
        // Nothing is verified yet.
        self.post(&mode, to("dual_write", "s3"), 409).await;
        let postgres = to("dual_write", "postgres");
        for _ in 0..2 {
            self.post(&mode, postgres.clone(), 200).await;
        }
        // While S3 takes nothing the copy there stays behind, and the walk waits for it.
        let mut failing =
            json!({"name": "s3.put_if_absent.before", "action": "error", "times": 1_000_000});
        let failpoints = "/api/v1/admin/actors/failpoints";
        self.post(failpoints, failing.clone(), 202).await;
        let event = json!({"events": [{"type": "OrderPaid", "data": {}}]});
        self.post("/api/v1/streams/order/7/events", event, 201)
            .await;
        let mut forced = to("dual_write", "s3");
        forced["force"] = true.into();
        let walking = self.post(&mode, forced, 202).await;
        let id = walking["switch"]["id"].as_str().expect("an id").to_owned();
        self.post(&mode, to("legacy", "postgres"), 409).await;
        let switch = format!("{migration}/switches/{id}");
        self.ask("DELETE", &switch, None, 202).await;
        self.until(&switch, |switch| switch["ended"].is_string())
            .await;
        self.ask("DELETE", &switch, None, 409).await;
        failing["times"] = 0.into();
        self.post(failpoints, failing, 202).await;

        let backfill = json!({"action": "start", "rate": 100_000.0});
        self.job("backfill", backfill).await;
        let pause = json!({"action": "pause", "job": null});
        self.post(&format!("{migration}/backfill"), pause, 409)
            .await;
        self.job("verify", json!({"partitions": [0]})).await;
        let verified = self.job("verify", json!({})).await;
        let report = json!({"verification": verified["id"], "dry_run": true});
        self.job("repair", report).await;
        let mut s3 = to("s3_only", "s3");
        s3["force"] = true.into();
        let switched = self.post(&mode, s3, 200).await;
        assert_eq!(switched["migration"]["mode"], "s3_only", "{switched}");
        self.get(migration).await;
        self.get(&format!("{migration}/history?limit=2")).await;
        // It may be archived a second after it has retired.
        let archive = format!("{migration}/archive");
        let order = json!({"dry_run": true});
        self.service
            .until("retirement", async || {
                let (status, answer) = self
                    .service
                    .send("POST", &archive, Some(order.clone()))
                    .await;
                assert!(status == 202 || answer["code"] == "not_retired", "{answer}");
                (status == 202).then_some(())
            })
            .await;
        self.until(&archive, |job| job["state"] == "done").await;
        self.job("archive", json!({"dry_run": true})).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_answers_as_described() {
    let env = [
        ("OMS__MIGRATION__ARCHIVE_AFTER", "1s"),
        ("OMS__MIGRATION__GATES__MAX_LAG", "0"),
    ];
    let service = Service::start(OMS, &env, &["--chaos", "--mode", "legacy"]).await;
    let mut story = Story {
        service,
        done: BTreeSet::new(),
        wrong: BTreeSet::new(),
    };
    story.ontology().await;
    story.streams().await;
    story.migration().await;
    story.operators().await;
    let wrong: Vec<String> = story.wrong.into_iter().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let missing: Vec<_> = contract::operations()
        .difference(&story.done)
        .copied()
        .collect();
    assert!(missing.is_empty(), "never done: {missing:?}");
}

#[test]
fn what_is_not_as_described_is_noticed() {
    let answer = |status, media: &str, body: &str| Answer {
        status,
        media: media.to_owned(),
        body: body.to_owned(),
    };
    let probe = |status, media, body| {
        let answer = answer(status, media, body);
        answer.check("GET", "/health/ready?x=1", None)
    };
    let json = "application/json; charset=utf-8";
    let ready = probe(200, json, r#"{"status":"ready"}"#);
    assert_eq!(ready, Ok(Some("getReady")));
    let not_ready = probe(503, json, r#"{"status":"not_ready","partitions":[3]}"#);
    assert_eq!(not_ready, Ok(Some("getReady")));
    for (status, media, body) in [
        (202, json, r#"{"status":"ready"}"#),
        (200, "text/plain", r#"{"status":"ready"}"#),
        (200, json, "ready"),
        (200, json, r#"{"status":"steady"}"#),
        (200, json, r#"{}"#),
        (200, json, r#"{"status":"ready","partitions":[-1]}"#),
        (200, json, r#"{"status":"ready","more":1}"#),
    ] {
        assert!(
            probe(status, media, body).is_err(),
            "{status} {media} {body}"
        );
    }
    let taken = |path, sent: Value| {
        let answer = answer(202, json, r#"{"status":"accepted"}"#);
        answer.check("POST", path, Some(&sent))
    };
    let kill = "/api/v1/admin/actors/kill";
    let good = json!({"path": "relay", "how": "panic"});
    assert_eq!(taken(kill, good), Ok(Some("killActor")));
    assert!(taken(kill, json!({"path": "relay", "how": "love"})).is_err());
    assert_eq!(taken("/console/x", json!({})), Ok(None));
}
