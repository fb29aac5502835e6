//! The files of the console, embedded. One that is not named here is not served.

use std::sync::OnceLock;

use sha2::{Digest, Sha256};

/// A file.
pub struct Asset {
    /// Its path below `/console/`.
    pub name: &'static str,
    /// What it holds.
    pub bytes: &'static [u8],
    etag: OnceLock<String>,
}

impl Asset {
    /// Names its content, quoted.
    pub fn etag(&self) -> &str {
        self.etag.get_or_init(|| {
            let hash = hex::encode(Sha256::digest(self.bytes));
            format!("\"{}\"", &hash[..16])
        })
    }

    /// Follows from its name.
    pub fn media_type(&self) -> &'static str {
        match self.name.rsplit_once('.').map(|(_, ending)| ending) {
            Some("html") => "text/html; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("svg") => "image/svg+xml",
            _ => "text/plain; charset=utf-8",
        }
    }
}

macro_rules! assets {
    ($($name:literal),+ $(,)?) => {
        const COUNT: usize = [$($name),+].len() + 1;

        /// Every file.
        pub static ASSETS: [Asset; COUNT] = [
            $(Asset {
                name: $name,
                bytes: include_bytes!(concat!("assets/", $name)),
                etag: OnceLock::new(),
            },)+
            // The runbook, so that it is at hand where the alarm is seen.
            Asset {
                name: "runbook.md",
                bytes: include_bytes!("../../../deploy/RUNBOOK.md"),
                etag: OnceLock::new(),
            },
        ];
    };
}

assets!(
    "index.html",
    "console.css",
    "icon.svg",
    "vendor/lit-html.js",
    "vendor/uPlot.iife.min.js",
    "vendor/uPlot.min.css",
    "vendor/LICENSES.txt",
    "actors.js",
    "api.js",
    "app.js",
    "attention.js",
    "audit.js",
    "charts.js",
    "delivery.js",
    "diff.js",
    "feed.js",
    "format.js",
    "jobs.js",
    "log.js",
    "metrics.js",
    "overview.js",
    "projections.js",
    "road.js",
    "runbook.js",
    "state.js",
    "stream.js",
    "streams.js",
    "switch.js",
    "ui.js",
);
