//! The card on the terminal when the service is ready: addresses, who leads, and a command to try
//! next.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use actix_web::web;

use crate::domain::ids::PartitionId;
use crate::http::HttpState;
use crate::log::lead::Lead;
use crate::service::migration::MigrationReport;

/// How often to check whether the service is ready.
const LOOK: Duration = Duration::from_millis(50);

/// After so long it is printed what the start still waits for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Addresses for the card.
#[derive(Debug, Clone)]
pub struct Places {
    /// Base URL of the API.
    pub http: String,
    /// Base URL for administrators, if that is another one.
    pub admin: Option<String>,
    /// Name and address of each part.
    pub parts: Vec<(&'static str, String)>,
    /// The file with the addresses and keys, if there is one.
    pub endpoints: Option<String>,
}

impl Places {
    /// Where everything is served.
    pub fn whole(&self) -> &str {
        self.admin.as_deref().unwrap_or(&self.http)
    }
}

/// Waits until the service is ready, then prints the card. Dropped when the service stops before.
pub async fn show(places: Places, state: web::Data<HttpState>, begun: Instant) {
    let mut told = false;
    while !state.service.is_ready() {
        if !told && begun.elapsed() > PATIENCE {
            told = true;
            print(&waiting(&places.http, &state.service.not_ready()));
        }
        tokio::time::sleep(LOOK).await;
    }
    let card = card(&places, &state.service.migration(), begun.elapsed());
    print(&format!("\n{card}\n"));
}

/// Prints to standard error, where the log goes.
fn print(text: &str) {
    if let Err(error) = writeln!(io::stderr(), "{text}") {
        // The terminal is gone; nobody can read it.
        tracing::debug!(%error, "the card could not be shown");
    }
}

fn waiting(http: &str, not_ready: &[PartitionId]) -> String {
    let partitions: Vec<String> = not_ready.iter().map(ToString::to_string).collect();
    format!(
        "oms is not ready yet: partition {} cannot be opened; {http}/health says why",
        partitions.join(", ")
    )
}

fn card(places: &Places, migration: &MigrationReport, took: Duration) -> String {
    let (http, whole) = (&places.http, places.whole());
    let leader = match migration.lead {
        Lead::Postgres => "PostgreSQL",
        Lead::S3 => "S3",
    };
    let leads = format!("{}, {leader} leads", migration.mode.as_str());
    let lines = [("API", http.clone()), ("Docs", format!("{http}/docs"))]
        .into_iter()
        .chain([("Console", format!("{whole}/console"))])
        .chain(places.parts.iter().cloned())
        .chain([("Mode", leads)])
        .chain(places.endpoints.clone().map(|file| ("Keys", file)))
        .map(|(name, what)| format!("  {name:<11} {what}"));
    let mut text = vec![format!("oms is ready in {:.1} s", took.as_secs_f64())];
    text.push(String::new());
    text.extend(lines);
    text.push(String::new());
    text.push(format!(
        "  Next: `OMS_URL={whole} oms status`, or open {http}/docs. Ctrl-C stops it."
    ));
    text.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::stage::Mode;

    #[test]
    fn the_card_says_where_everything_is_who_leads_and_what_to_try() {
        let places = Places {
            http: "http://127.0.0.1:8000".into(),
            admin: None,
            parts: vec![("S3", "embedded, http://127.0.0.1:9".into())],
            endpoints: Some("./oms-data/endpoints.json".into()),
        };
        let migration = MigrationReport {
            mode: Mode::DualWrite,
            lead: Lead::S3,
            epoch: 2,
            stage: None,
            share_ahead: 0.0,
            moving: false,
            partitions: Vec::new(),
            fallback_reads: 0,
            switch: None,
        };
        let text = card(&places, &migration, Duration::from_millis(2_340));
        insta::assert_snapshot!(text);
    }

    #[test]
    fn what_is_waited_for_is_named() {
        let text = waiting("http://h", &[PartitionId(1), PartitionId(3)]);
        assert!(text.contains("partition 1, 3 cannot"), "{text}");
    }
}
