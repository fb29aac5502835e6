//! The demonstrated service: a child process of the same program, on the embedded stack in a folder
//! of its own, which can be killed and restarted.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::Signal;
use tokio::process::{Child, Command};

use crate::cli::remote::{Api, Certificates};
use crate::config::endpoints::{self, Endpoints};
use crate::config::layers;

/// The first start creates a PostgreSQL cluster, which takes long on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// Pause between two checks whether it is ready.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Lines of its log that are shown when it does not start.
const LOG_LINES: usize = 20;

/// The child process; killed when dropped.
pub struct Service {
    data_dir: PathBuf,
    child: Child,
    /// Its addresses.
    pub endpoints: Endpoints,
    pub api: Api,
}

impl Service {
    /// Starts it and waits until it is ready. `data_dir` may hold data of an earlier start.
    pub async fn start(data_dir: &Path) -> anyhow::Result<Self> {
        // The file of the previous run names ports that are not in use any more.
        match fs::remove_file(data_dir.join(endpoints::FILE)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
            _ => {}
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(log_path(data_dir))?;
        let mut child = command(data_dir, log)?.spawn()?;
        match ready(data_dir, &mut child).await {
            Ok((endpoints, api)) => Ok(Self {
                data_dir: data_dir.to_owned(),
                child,
                endpoints,
                api,
            }),
            Err(error) => {
                child.kill().await?;
                let log = fs::read_to_string(log_path(data_dir)).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
                Err(error.context(format!("the end of the service's log:\n{tail}")))
            }
        }
    }

    /// Kills it as a power cut would (SIGKILL: it gets no warning) and starts it again.
    pub async fn kill_and_restart(&mut self) -> anyhow::Result<()> {
        self.child.kill().await?;
        *self = Self::start(&self.data_dir).await?;
        Ok(())
    }

    /// Stops it in order.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let id = self.child.id().context("the service has ended by itself")?;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(id.try_into()?), Signal::SIGTERM)?;
        if tokio::time::timeout(READY_WITHIN, self.child.wait())
            .await
            .is_err()
        {
            self.child.kill().await?;
        }
        Ok(())
    }
}

fn log_path(data_dir: &Path) -> PathBuf {
    data_dir.join("demo.log")
}

fn command(data_dir: &Path, log: File) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["serve", "--port", "0", "--log-level", "info"])
        // The mode of a new store; the recorded one wins when it is started again.
        .args(["--mode", "legacy"])
        .arg("--data-dir")
        .arg(data_dir)
        // Not the oms.toml of the person who runs the demo…
        .current_dir(data_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true);
    // …and none of their variables: the demo must not write to a real store.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(layers::is_ours) {
            command.env_remove(name);
        }
    }
    #[cfg(target_os = "linux")]
    // SAFETY: between fork and exec only prctl is called, which is async-signal-safe. The thread
    // that starts the service is the main one, so the signal comes when the demo itself ends.
    unsafe {
        command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?));
    }
    Ok(command)
}

async fn ready(data_dir: &Path, child: &mut Child) -> anyhow::Result<(Endpoints, Api)> {
    let begun = Instant::now();
    while begun.elapsed() < READY_WITHIN {
        if let Some(status) = child.try_wait()? {
            anyhow::bail!("the service ended at its start: {status}");
        }
        if let Some(endpoints) = Endpoints::read(data_dir)? {
            let api = Api::new(endpoints.whole(), None, &Certificates::default())?;
            if api.text("/health/ready").await.is_ok() {
                return Ok((endpoints, api));
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    anyhow::bail!("the service was not ready within {READY_WITHIN:?}")
}
