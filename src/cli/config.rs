//! `oms config`.

use std::process::ExitCode;

use rand::RngCore;
use sha2::{Digest, Sha256};

use super::exit::Exit;
use super::flags::{ConfigFlags, ServeFlags};
use super::output::Output;

/// Check or print the configuration, make tokens
#[derive(Debug, clap::Subcommand)]
pub enum ConfigCommand {
    /// Check the configuration; lists every error with its key and origin
    Check(Look),
    /// Print the configuration as it will be used, secrets redacted
    Print(Look),
    /// Make a token and the lines that let it in
    Token(Token),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  oms config check --config /etc/oms.toml
  OMS__HTTP__PORT=9000 oms config print")]
pub struct Look {
    #[command(flatten)]
    config: ConfigFlags,
    #[command(flatten)]
    flags: ServeFlags,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  oms config token ops --roles read,write,admin >> oms.toml")]
pub struct Token {
    /// The principal: recorded in every event written with the token
    name: String,
    /// What it allows
    #[arg(long, value_delimiter = ',', default_value = "read,write",
        value_parser = ["read", "write", "admin"])]
    roles: Vec<String>,
}

/// Bytes of a token: too many to be guessed.
const TOKEN_BYTES: usize = 32;

impl ConfigCommand {
    pub(super) fn run(self, output: Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::Check(look) => {
                let config = look.config.load(look.flags.settings())?;
                let parts = config.parts();
                let value = serde_json::json!({ "valid": true, "parts": parts });
                output.result(&value, || {
                    let lines = parts.map(|(part, what)| format!("{part}: {what}\n"));
                    format!("the configuration is valid\n{}", lines.concat())
                })?;
            }
            Self::Print(look) => {
                let config = look.config.load(look.flags.settings())?;
                let toml = config.to_toml()?;
                output.result(&config, || toml)?;
            }
            Self::Token(token) => token.run(output)?,
        }
        Ok(Exit::Done.into())
    }
}

impl Token {
    /// The token itself goes to standard error, so that `>> oms.toml` keeps only its hash.
    fn run(self, output: Output) -> anyhow::Result<()> {
        let mut bytes = [0; TOKEN_BYTES];
        rand::rng().fill_bytes(&mut bytes);
        let token = hex::encode(bytes);
        let sha256 = hex::encode(Sha256::digest(&token));
        let value = serde_json::json!({
            "token": token, "name": self.name, "roles": self.roles, "sha256": sha256,
        });
        output.note(&format!("the token, shown only now: {token}"));
        output.result(&value, || {
            let name = toml::Value::from(self.name.clone());
            let roles = toml::Value::from(self.roles.clone());
            format!("\n[[auth.tokens]]\nname = {name}\nroles = {roles}\nsha256 = \"{sha256}\"\n")
        })?;
        Ok(())
    }
}
