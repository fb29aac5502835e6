//! Settings of the bucket that keep, or would remove, events.

use futures_util::join;

use super::AREA;
use crate::cli::doctor::check::{Check, DEADLINE, Finding};
use crate::log::keys;
use crate::store::adapters::s3::{BucketAnswer, S3ObjectStore};
use crate::store::error::StoreError;

/// Classes from which an object must be restored, for hours, before it can be read.
const ASLEEP: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

/// Keys without which the log cannot be read.
const NEEDED: [&str; 2] = [keys::EVENTS, keys::STORE];

/// Versioning, Object Lock, lifecycle rules.
pub async fn checks(store: &S3ObjectStore) -> Vec<Check> {
    let ask = async |name, query, judge: fn(&str) -> Finding| {
        let answer = async {
            match read(store.ask(&[(query, "")]).await) {
                Ok(xml) => judge(&xml),
                Err(why) => Finding::skipped(why),
            }
        };
        AREA.within(name, DEADLINE, answer).await
    };
    let (versions, lock, rules) = join!(
        ask("versioning", "versioning", versioning),
        ask("Object Lock", "object-lock", object_lock),
        ask("lifecycle rules", "lifecycle", lifecycle),
    );
    vec![versions, lock, rules]
}

/// The body of a useful answer; empty if there is no such configuration.
fn read(answer: Result<BucketAnswer, StoreError>) -> Result<String, String> {
    let answer = answer.map_err(|error| error.message)?;
    match answer.status {
        200 => Ok(answer.body),
        404 => Ok(String::new()),
        401 | 403 => Err("the key may not ask for it".to_owned()),
        status => Err(format!("the server does not say ({status})")),
    }
}

fn versioning(xml: &str) -> Finding {
    match first(xml, "Status") {
        Some("Enabled") => Finding::ok("on: what is overwritten or removed can be had back"),
        state => Finding::warning(
            format!(
                "{}: a removed object is gone",
                state.unwrap_or("off").to_lowercase()
            ),
            "turn versioning on: the service replaces and removes nothing under events/, but \
             others with a key could",
        ),
    }
}

fn object_lock(xml: &str) -> Finding {
    if first(xml, "ObjectLockEnabled") != Some("Enabled") {
        return Finding::ok("off; with it nobody at all could remove events");
    }
    let by_default = match (first(xml, "Mode"), first(xml, "Days"), first(xml, "Years")) {
        (Some(mode), Some(days), _) => format!(", {mode} for {days} days by default"),
        (Some(mode), _, Some(years)) => format!(", {mode} for {years} years by default"),
        _ => ", without a default: objects are not locked by themselves".to_owned(),
    };
    Finding::ok(format!("on{by_default}"))
}

/// Finds rules that remove events, or move them where they cannot be read.
fn lifecycle(xml: &str) -> Finding {
    let rules = elements(xml, "Rule");
    let mut wrong = Vec::new();
    for rule in &rules {
        // The service's objects have no tags, so that rules for tags do not concern them.
        let concerns_us = first(rule, "Status") == Some("Enabled") && !rule.contains("<Tag>");
        let prefix = first(rule, "Prefix").unwrap_or_default();
        let meets = |key: &&&str| key.starts_with(prefix) || prefix.starts_with(**key);
        let Some(key) = NEEDED.iter().find(meets).filter(|_| concerns_us) else {
            continue;
        };
        let id = first(rule, "ID").unwrap_or("without a name");
        let expires = elements(rule, "Expiration");
        let removes = |expiration: &&str| {
            first(expiration, "Days").is_some() || first(expiration, "Date").is_some()
        };
        if expires.iter().any(removes) {
            wrong.push(format!("the rule {id} removes {key}"));
        }
        let moves = elements(rule, "Transition");
        let class = |moved: &&str| first(moved, "StorageClass").map(str::to_owned);
        let asleep = moves.iter().filter_map(class);
        for class in asleep.filter(|class| ASLEEP.contains(&class.as_str())) {
            wrong.push(format!(
                "the rule {id} moves {key} to {class}, where it cannot be read"
            ));
        }
    }
    if wrong.is_empty() {
        return Finding::ok(match rules.len() {
            0 => "none".to_owned(),
            n => format!("{n}, none of which touches events"),
        });
    }
    Finding::failed(
        wrong.join("\n"),
        "take events/ and meta/ out of it at once: events are kept for good, and a log with a gap \
         cannot be opened. Rules for old versions only (NoncurrentVersionExpiration) are safe",
    )
}

/// The contents of all elements of this name; those of S3's answers have no attributes.
fn elements<'a>(xml: &'a str, name: &str) -> Vec<&'a str> {
    let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
    let mut found = Vec::new();
    let mut rest = xml;
    while let Some((_, after)) = rest.split_once(&begin)
        && let Some((content, after)) = after.split_once(&end)
    {
        found.push(content);
        rest = after;
    }
    found
}

fn first<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let content = elements(xml, name).into_iter().next()?.trim();
    (!content.is_empty()).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::check::Verdict;

    fn rules(rules: &[&str]) -> Finding {
        let rules: String = rules.iter().map(|r| format!("<Rule>{r}</Rule>")).collect();
        lifecycle(&format!(
            "<LifecycleConfiguration xmlns=\"s3\">{rules}</LifecycleConfiguration>"
        ))
    }

    #[test]
    fn rules_that_remove_events_or_put_them_to_sleep_are_found() {
        let expire = "<Expiration><Days>30</Days></Expiration>";
        let on = "<Status>Enabled</Status>";
        for (rule, verdict) in [
            (format!("<ID>a</ID><Filter/>{on}{expire}"), Verdict::Failed),
            (
                format!("<Filter><Prefix></Prefix></Filter>{on}{expire}"),
                Verdict::Failed,
            ),
            (
                format!("<Prefix>events/0001/</Prefix>{on}{expire}"),
                Verdict::Failed,
            ),
            (
                format!("<Filter><Prefix>meta/</Prefix></Filter>{on}{expire}"),
                Verdict::Failed,
            ),
            (
                format!("<Filter><Prefix>logs/</Prefix></Filter>{on}{expire}"),
                Verdict::Ok,
            ),
            (
                format!("<Prefix>events/</Prefix><Status>Disabled</Status>{expire}"),
                Verdict::Ok,
            ),
            (
                format!("<Filter><Tag><Key>k</Key><Value>v</Value></Tag></Filter>{on}{expire}"),
                Verdict::Ok,
            ),
            (
                format!(
                    "<Filter/>{on}<Expiration><ExpiredObjectDeleteMarker>true\
                     </ExpiredObjectDeleteMarker></Expiration>\
                     <NoncurrentVersionExpiration><NoncurrentDays>9</NoncurrentDays>\
                     </NoncurrentVersionExpiration>"
                ),
                Verdict::Ok,
            ),
            (
                format!(
                    "<Filter/>{on}<Transition><Days>9</Days><StorageClass>DEEP_ARCHIVE\
                     </StorageClass></Transition>"
                ),
                Verdict::Failed,
            ),
            (
                format!(
                    "<Filter/>{on}<Transition><Days>9</Days><StorageClass>STANDARD_IA\
                     </StorageClass></Transition>"
                ),
                Verdict::Ok,
            ),
        ] {
            assert_eq!(rules(&[&rule]).verdict, verdict, "{rule}");
        }
        let named = rules(
            &["<ID>tidy</ID><Filter/><Status>Enabled</Status><Expiration>\
            <Date>2027-01-01T00:00:00Z</Date></Expiration>"],
        );
        assert!(named.seen.contains("tidy removes events/"), "{named:?}");
        assert_eq!(lifecycle("").verdict, Verdict::Ok);
    }

    #[test]
    fn versioning_is_advised_and_a_server_that_does_not_say_is_skipped() {
        let answer = |status, body: &str| {
            read(Ok(BucketAnswer {
                status,
                date: None,
                body: body.to_owned(),
            }))
        };
        let on = answer(200, "<VersioningConfiguration><Status>Enabled</Status>").unwrap();
        assert_eq!(versioning(&on).verdict, Verdict::Ok);
        let off = answer(200, "<VersioningConfiguration/>").unwrap();
        assert_eq!(versioning(&off).verdict, Verdict::Warning);
        assert!(answer(501, "").unwrap_err().contains("501"));
        assert!(answer(403, "").unwrap_err().contains("may not ask"));
        let locked = "<ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
            <Mode>COMPLIANCE</Mode><Days>9</Days></DefaultRetention></Rule>";
        assert!(object_lock(locked).seen.contains("COMPLIANCE for 9 days"));
        assert_eq!(
            object_lock("").seen,
            "off; with it nobody at all could remove events"
        );
    }
}
