//! The files of the console, embedded in the binary. Files not listed here are not served.

use std::sync::OnceLock;

use sha2::{Digest, Sha256};

pub struct Asset {
    /// Its path below `/console/`.
    pub name: &'static str,
    pub bytes: &'static [u8],
    etag: OnceLock<String>,
}

impl Asset {
    /// A hash of the content, quoted.
    pub fn etag(&self) -> &str {
        self.etag.get_or_init(|| {
            let hash = hex::encode(Sha256::digest(self.bytes));
            format!("\"{}\"", &hash[..16])
        })
    }

    /// From the extension of the name.
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

        pub static ASSETS: [Asset; COUNT] = [
            $(Asset {
                name: $name,
                bytes: include_bytes!(concat!("assets/", $name)),
                etag: OnceLock::new(),
            },)+
            // The runbook, for links from alerts.
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
