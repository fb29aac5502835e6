//! Flags that choose the configuration, shared by all commands that need it.

use std::path::PathBuf;

use crate::config::layers::Sources;

use crate::config::Config;
use crate::config::problems::ConfigError;
use crate::config::setting::Setting;
use crate::config::telemetry::LogFormat;

/// Where the configuration comes from.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ConfigFlags {
    /// Read this file [default: ./oms.toml if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the embedded parts keep their data [default: ./oms-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Set any key, for example `log.partitions=8`; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_set)]
    pub set: Vec<(String, String)>,
}

/// Flags of `oms serve` with keys of their own.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ServeFlags {
    /// Port to bind; 0 takes a free one [default: 8000]
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
    /// Address to bind; anything but loopback needs tokens or a provider of them [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    pub host: Option<String>,
    /// Mode of a store that has none recorded
    #[arg(long, value_name = "MODE", value_parser = ["legacy", "dual_write", "s3_only"])]
    pub mode: Option<String>,
    /// Run only these parts: api, relay, projection [default: all]
    #[arg(long, value_name = "LIST")]
    pub roles: Option<String>,
    /// Allow actors to be killed through the API
    #[arg(long)]
    pub chaos: bool,
    /// error, warn, info, debug, trace, or directives [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// How log lines look [default: text on a terminal, json otherwise]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

fn parse_set(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must be KEY=VALUE".to_owned()),
    }
}

impl ConfigFlags {
    /// Loads the configuration with `more` settings on top.
    pub fn load(&self, more: Vec<Setting>) -> Result<Config, ConfigError> {
        let mut sources = Sources::process();
        sources.file.clone_from(&self.config);
        if let Some(dir) = &self.data_dir {
            let setting = Setting::flag("data_dir", "--data-dir", dir.display());
            sources.flags.push(setting);
        }
        sources.flags.extend(more);
        for (key, value) in &self.set {
            sources.flags.push(Setting::flag(key, "--set", value));
        }
        Config::load(&sources)
    }
}

impl ServeFlags {
    /// The settings that the flags stand for.
    pub fn settings(&self) -> Vec<Setting> {
        let format = self.log_format.map(|f| match f {
            LogFormat::Text => "text".to_owned(),
            LogFormat::Json => "json".to_owned(),
        });
        [
            ("http.port", "--port", self.port.map(|p| p.to_string())),
            ("http.host", "--host", self.host.clone()),
            ("migration.mode", "--mode", self.mode.clone()),
            ("roles", "--roles", self.roles.clone()),
            (
                "chaos.enabled",
                "--chaos",
                self.chaos.then(|| "true".to_owned()),
            ),
            ("telemetry.log_level", "--log-level", self.log_level.clone()),
            ("telemetry.log_format", "--log-format", format),
        ]
        .into_iter()
        .filter_map(|(key, flag, value)| Some(Setting::flag(key, flag, value?)))
        .collect()
    }
}
