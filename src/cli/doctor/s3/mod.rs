//! The bucket: reach, rights, put-if-absent, clock, speed, and settings that would remove events.
//!
//! * [`rights`]: what the key may do, tried on one small object under `probe/`, where the service's
//!   own start writes too
//! * [`settings`]: versioning, Object Lock and lifecycle rules

mod rights;
mod settings;

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::join;

use super::check::{Area, Check, DEADLINE, Finding, Verdict};
use super::clocks;
use super::targets::Target;
use crate::clock::{new_uuid, now};
use crate::log::keys;
use crate::store::adapters::proxy;
use crate::store::adapters::s3::{S3ObjectStore, S3Settings};
use crate::store::error::{StoreError, StoreErrorKind};
use crate::store::ports::object_store::{ObjectStore, list_all};
use crate::store::probe::{ProbeError, probe};

const AREA: Area = Area::S3;

/// What is not checked when the bucket is not reached.
const AFTER_REACH: [&str; 6] = [
    "rights",
    "put-if-absent",
    "latency",
    "versioning",
    "Object Lock",
    "lifecycle rules",
];

/// The races of the probe take 2 s a round on servers with distributed locks.
const PROBE_DEADLINE: Duration = Duration::from_secs(30);

/// Requests of which the median time is taken.
const ROUNDS: usize = 5;

/// Beyond the slowest of ordinary stores: AWS answers small puts within some tens of milliseconds.
const SLOW: Duration = Duration::from_millis(250);

/// What was found, and by how many seconds the server's clock is ahead.
pub async fn checks(target: &Target<S3Settings>) -> (Vec<Check>, Option<f64>) {
    let (settings, writes) = match target {
        Target::Own(settings) => (settings, true),
        Target::Embedded(settings) => (settings, false),
        Target::Absent(why) => {
            let names = [&["reach", "transport", "clock"][..], &AFTER_REACH].concat();
            return (AREA.skip(&names, why), None);
        }
    };
    let store = match S3ObjectStore::new(settings) {
        Ok(store) => store,
        Err(error) => return (vec![AREA.check("reach", unreached(&error, settings))], None),
    };
    let mut reached = false;
    let reach = AREA.within("reach", DEADLINE, async {
        match store.list("", None, 1).await {
            Ok(_) => {
                reached = true;
                log(&store, settings).await
            }
            Err(error) => unreached(&error, settings),
        }
    });
    // A clock that is far off is why some are refused: it is looked at whatever else is answered.
    let (reach, (clock, ahead)) = join!(reach, clock(&store));
    let transport = AREA.check("transport", transport(settings));
    let mut checks = vec![reach, transport, clock];
    if !reached {
        checks.extend(AREA.skip(&AFTER_REACH, "the bucket is not reached"));
        return (checks, ahead);
    }
    let (tried, asked) = join!(tried(&store, writes), settings::checks(&store));
    checks.extend(tried);
    checks.extend(asked);
    (checks, ahead)
}

/// Whether the log can be read on the way.
fn transport(settings: &S3Settings) -> Finding {
    match settings.endpoint.as_deref() {
        None => Finding::ok("HTTPS, of AWS"),
        Some(endpoint) if endpoint.starts_with("https:") => Finding::ok("HTTPS"),
        Some(endpoint) if proxy::is_loopback(endpoint) => Finding::ok("HTTP, on this machine"),
        Some(endpoint) => Finding::warning(
            format!("{endpoint} is HTTP: events can be read on the way"),
            "use https in s3.endpoint, or make sure that the network between is yours alone",
        ),
    }
}

/// Whether the bucket holds a log.
async fn log(store: &dyn ObjectStore, settings: &S3Settings) -> Finding {
    let bucket = &settings.bucket;
    match store.get(keys::STORE).await {
        Ok(Some(_)) => Finding::ok(format!("the bucket {bucket} answers and holds a log")),
        Ok(None) => Finding::ok(format!("the bucket {bucket} answers; no log is in it yet")),
        Err(error) => unreached(&error, settings),
    }
}

fn unreached(error: &StoreError, settings: &S3Settings) -> Finding {
    let (bucket, message) = (&settings.bucket, &error.message);
    let place = settings.endpoint.as_deref().unwrap_or("AWS");
    let seen = format!("{place}: {message}");
    if message.contains("RequestTimeTooSkewed") {
        return Finding::failed(seen, clocks::ADVICE);
    }
    if message.contains("certificate") {
        return Finding::failed(
            seen,
            "the server's certificate comes from an authority that is not trusted here, is not for \
             the name in s3.endpoint, or has ended: name the authority's file in s3.ca",
        );
    }
    match error.kind {
        StoreErrorKind::NotFound => Finding::warning(
            format!("{place} has no bucket {bucket}"),
            "the service makes it at its start if its key may; otherwise make it, with versioning, \
             and try again",
        ),
        StoreErrorKind::Denied => Finding::failed(
            seen,
            format!(
                "s3.access_key and s3.secret_key (or the role of the machine) are refused: compare \
                 them with the server's; the key must be allowed to list, get and put in {bucket}"
            ),
        ),
        StoreErrorKind::Invalid => Finding::failed(
            seen,
            "correct the section [s3]: docs/CONFIGURATION.md says what each key means",
        ),
        _ => Finding::failed(
            seen,
            "is s3.endpoint right, does the server run, does a firewall or a proxy stand between? \
             With S3 away the service waits at its start, and where S3 leads writes are refused",
        ),
    }
}

/// What is found by writing; all of it under `probe/`.
async fn tried(store: &S3ObjectStore, writes: bool) -> Vec<Check> {
    let names = ["rights", "put-if-absent", "latency"];
    if !writes {
        let why = "the running service hands out a key that only reads; it tried this itself at \
                   its start";
        return AREA.skip(&names, why);
    }
    let mut may_remove = false;
    let rights = AREA.within("rights", DEADLINE, async {
        let rights = rights::try_all(store, new_uuid(), now()).await;
        may_remove = rights.cleans_up();
        rights::judge(&rights)
    });
    let rights = rights.await;
    if !may_remove {
        let why = "what it writes could not be removed again";
        return [vec![rights], AREA.skip(&names[1..], why)].concat();
    }
    // One after the other: the races would spoil the times.
    let latency = AREA.within("latency", DEADLINE, latency(store)).await;
    let id = new_uuid();
    let raced = AREA
        .within("put-if-absent", PROBE_DEADLINE, async {
            judge_probe(probe(store, id).await)
        })
        .await;
    // What was given up in the middle has removed nothing.
    let removed = AREA.within(
        "put-if-absent",
        DEADLINE,
        remove_all(store, format!("probe/{id}/")),
    );
    let removed = removed.await;
    match removed.verdict {
        Verdict::Ok => vec![rights, raced, latency],
        _ => vec![rights, raced, removed, latency],
    }
}

async fn remove_all(store: &dyn ObjectStore, prefix: String) -> Finding {
    let removed = async {
        for object in list_all(store, &prefix, None).await? {
            store.delete(&object.key).await?;
        }
        Ok::<_, StoreError>(())
    };
    match removed.await {
        Ok(()) => Finding::ok("nothing is left"),
        Err(error) => Finding::warning(
            format!("what was written is not removed: {}", error.message),
            format!("remove what lies under {prefix}"),
        ),
    }
}

fn judge_probe(outcome: Result<(), ProbeError>) -> Finding {
    match outcome {
        Ok(()) => Finding::ok("refuses a key that is taken; of racing writers one wins"),
        Err(ProbeError::Unfit(why)) => Finding::failed(
            why,
            "this server must not hold the log: it would lose acknowledged writes, and the service \
             refuses to start on it. Use one whose If-None-Match is real: docs/LIMITS.md",
        ),
        Err(ProbeError::Store(error)) => Finding::failed(
            error.message,
            "the server did not decide in time: raise s3.request_timeout (10s for SeaweedFS), or \
             look at its load",
        ),
    }
}

async fn latency(store: &dyn ObjectStore) -> Finding {
    let key = format!("{}{}", rights::PREFIX, new_uuid());
    let timed = times(store, &key).await;
    let removed = store.delete(&key).await;
    let ((puts, gets), ()) = match timed.and_then(|times| Ok((times, removed?))) {
        Ok(times) => times,
        Err(error) => {
            return Finding::failed(error.to_string(), "look at the server's log and load");
        }
    };
    judge_latency(median(puts), median(gets))
}

type Times = Vec<Duration>;

async fn times(store: &dyn ObjectStore, key: &str) -> Result<(Times, Times), StoreError> {
    let (mut puts, mut gets) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        store.put(key, Bytes::from_static(b"oms doctor")).await?;
        puts.push(begun.elapsed());
        let begun = Instant::now();
        store.get(key).await?;
        gets.push(begun.elapsed());
    }
    Ok((puts, gets))
}

fn median(mut times: Times) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn judge_latency(put: Duration, get: Duration) -> Finding {
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let seen = format!("p50 of a put {:.1} ms, of a get {:.1} ms", ms(put), ms(get));
    match put > SLOW {
        false => Finding::ok(seen),
        true => Finding::warning(
            seen,
            "where S3 leads no write is acknowledged before its put: use a bucket in the region of \
             the service, and look at what lies between",
        ),
    }
}

async fn clock(store: &S3ObjectStore) -> (Check, Option<f64>) {
    let mut ahead = None;
    let check = AREA.within("clock", DEADLINE, async {
        let before = now();
        let answer = match store.ask(&[("list-type", "2"), ("max-keys", "1")]).await {
            Ok(answer) => answer,
            Err(error) => return Finding::skipped(error.to_string()),
        };
        ahead = (answer.date.as_deref()).and_then(|d| clocks::ahead(d, before, now()));
        match ahead {
            Some(ahead) => clocks::server(ahead),
            None => Finding::skipped("the server does not say what time it is"),
        }
    });
    let check = check.await;
    (check, ahead)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(endpoint: Option<&str>) -> S3Settings {
        let keys = ("key", "secret");
        let mut settings = S3Settings::at("http://s3", "r", "bucket", keys, DEADLINE);
        settings.endpoint = endpoint.map(str::to_owned);
        settings
    }

    #[test]
    fn each_way_of_not_reaching_the_bucket_has_its_own_advice() {
        let settings = settings(Some("http://s3.example"));
        let told = |kind| {
            let error = StoreError::determinate(kind, "s3", "list", "why");
            unreached(&error, &settings)
        };
        let missing = told(StoreErrorKind::NotFound);
        assert_eq!(missing.verdict, Verdict::Warning);
        for (kind, word) in [
            (StoreErrorKind::Denied, "s3.access_key"),
            (StoreErrorKind::Unavailable, "s3.endpoint"),
            (StoreErrorKind::Timeout, "firewall"),
        ] {
            let finding = told(kind);
            assert_eq!(finding.verdict, Verdict::Failed);
            assert!(finding.advice.unwrap().contains(word), "{kind:?}");
        }
        let skewed = "403: RequestTimeTooSkewed: The difference is too large";
        let error = StoreError::determinate(StoreErrorKind::Unavailable, "s3", "list", skewed);
        assert!(unreached(&error, &settings).advice.unwrap().contains("NTP"));
        let untrusted = "invalid peer certificate: UnknownIssuer";
        let error = StoreError::determinate(StoreErrorKind::Denied, "s3", "list", untrusted);
        let advice = unreached(&error, &settings).advice.unwrap();
        assert!(advice.contains("s3.ca"), "{advice}");
    }

    #[test]
    fn http_is_well_on_this_machine_alone() {
        for (endpoint, verdict) in [
            (None, Verdict::Ok),
            (Some("https://s3.example"), Verdict::Ok),
            (Some("http://127.0.0.1:9000"), Verdict::Ok),
            (Some("http://10.0.0.7:9000"), Verdict::Warning),
        ] {
            assert_eq!(transport(&settings(endpoint)).verdict, verdict);
        }
    }

    #[test]
    fn a_server_that_lets_two_writers_win_has_failed_and_a_slow_one_is_warned_of() {
        let unfit = judge_probe(Err(ProbeError::Unfit("2 of 16 racing writers won".into())));
        assert_eq!(unfit.verdict, Verdict::Failed);
        assert!(unfit.seen.contains("2 of 16") && unfit.advice.unwrap().contains("must not"));
        assert_eq!(judge_probe(Ok(())).verdict, Verdict::Ok);
        let ms = Duration::from_millis;
        assert_eq!(judge_latency(ms(20), ms(900)).verdict, Verdict::Ok);
        assert_eq!(judge_latency(ms(300), ms(1)).verdict, Verdict::Warning);
        assert_eq!(median(vec![ms(9), ms(1), ms(2)]), ms(2));
    }
}
