//! `oms dashboard` in a terminal, beside a real service: looked at and operated with keys.

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use oms_testkit::service::{PATIENCE, Service};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};

use crate::OMS;

const COLUMNS: usize = 80;
const LINES: usize = 24;

/// What a terminal shows of the bytes that it was sent: as much of one as the dashboard needs.
struct Screen {
    cells: Vec<Vec<char>>,
    line: usize,
    column: usize,
    /// All that was sent.
    sent: Vec<u8>,
}

impl Screen {
    fn new() -> Self {
        Self {
            cells: vec![vec![' '; COLUMNS]; LINES],
            line: 0,
            column: 0,
            sent: Vec::new(),
        }
    }

    /// Takes whole characters; gives how many bytes these were.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let whole = match std::str::from_utf8(bytes) {
            Ok(text) => text.len(),
            Err(e) => e.valid_up_to(),
        };
        let text = std::str::from_utf8(&bytes[..whole]).expect("checked");
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if c == '\u{1b}' {
                let Some(length) = Self::sequence(rest) else {
                    // Its end is still to come.
                    break;
                };
                self.obey(&rest[..length]);
                rest = &rest[length..];
                continue;
            }
            if !c.is_control() && self.line < LINES && self.column < COLUMNS {
                self.cells[self.line][self.column] = c;
                self.column += 1;
            }
            rest = &rest[c.len_utf8()..];
        }
        let taken = text.len() - rest.len();
        self.sent.extend(&bytes[..taken]);
        taken
    }

    /// Length of the control sequence at the beginning, if it is there as a whole.
    fn sequence(text: &str) -> Option<usize> {
        match text.as_bytes().get(1)? {
            b'[' => {
                let end = text[2..].find(|c: char| ('@'..='~').contains(&c))?;
                Some(2 + end + 1)
            }
            _ => Some(2),
        }
    }

    fn obey(&mut self, sequence: &str) {
        let numbers = sequence.trim_start_matches("\u{1b}[");
        if let Some(place) = numbers.strip_suffix('H') {
            let mut place = place.split(';').map(|n| n.parse().unwrap_or(1_usize));
            self.line = place.next().unwrap_or(1) - 1;
            self.column = place.next().unwrap_or(1) - 1;
        } else if numbers.ends_with('J') {
            self.cells = vec![vec![' '; COLUMNS]; LINES];
        }
    }

    fn text(&self) -> String {
        let lines = self
            .cells
            .iter()
            .map(|line| line.iter().collect::<String>() + "\n");
        lines.collect()
    }
}

/// The dashboard in a terminal of 80 columns and 24 lines.
struct Watched {
    terminal: Child,
    keys: ChildStdin,
    screen: Arc<Mutex<Screen>>,
    reading: tokio::task::JoinHandle<()>,
}

impl Watched {
    fn start(service: &Service) -> Self {
        let command = format!(
            "stty rows {LINES} cols {COLUMNS}; exec {OMS} dashboard --url {}",
            service.url
        );
        let mut terminal = Command::new("script")
            .args(["-qefc", &command, "/dev/null"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TERM", "xterm-256color")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("script, which has a terminal for a program");
        let keys = terminal.stdin.take().expect("stdin");
        let mut output = terminal.stdout.take().expect("stdout");
        let screen = Arc::new(Mutex::new(Screen::new()));
        let shown = screen.clone();
        let reading = tokio::spawn(async move {
            let (mut held, mut piece) = (Vec::new(), [0; 4096]);
            while let Ok(n @ 1..) = output.read(&mut piece).await {
                held.extend(&piece[..n]);
                let taken = shown.lock().take(&held);
                held.drain(..taken);
            }
        });
        Self {
            terminal,
            keys,
            screen,
            reading,
        }
    }

    async fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).await.expect("keys");
        self.keys.flush().await.expect("keys");
    }

    /// Waits until the screen shows it.
    async fn shows(&self, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.screen.lock().text();
            if text.contains(what) {
                return;
            }
            assert!(Instant::now() < deadline, "no `{what}` in\n{text}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the screen shows it no more.
    async fn hides(&self, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.screen.lock().text().contains(what) {
            let late = Instant::now() > deadline;
            assert!(!late, "still `{what}` in\n{}", self.screen.lock().text());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Walks down the list of actors, asking to kill each, until this one would be killed.
    async fn choose(&mut self, actor: &str) {
        const ASKS: &str = " ends as if it had panicked";
        for _ in 0..50 {
            // The root is no actor that can be chosen.
            self.press("\u{1b}[B").await;
            self.press("k").await;
            self.shows(ASKS).await;
            if self
                .screen
                .lock()
                .text()
                .contains(&format!("│{actor}{ASKS}"))
            {
                return;
            }
            self.press("\u{1b}").await;
            self.hides(ASKS).await;
        }
        panic!("no {actor} in\n{}", self.screen.lock().text());
    }

    /// Waits for its end: the exit code, and whether the terminal was given back as it was.
    async fn ended(mut self) -> (Option<i32>, bool) {
        let ended = tokio::time::timeout(PATIENCE, self.terminal.wait()).await;
        let code = ended.expect("it ends").expect("its state").code();
        tokio::time::timeout(PATIENCE, self.reading)
            .await
            .expect("read")
            .expect("to its end");
        let sent = String::from_utf8_lossy(&self.screen.lock().sent).into_owned();
        let (before, after) = sent.split_once("\u{1b}[?1049l").unwrap_or((&sent, ""));
        let left = before.contains("\u{1b}[?1049h") && sent.contains("\u{1b}[?1049l");
        // The cursor is seen again, and nothing is drawn on the screen that was there before.
        let cursor = sent.rfind("\u{1b}[?25h") > sent.rfind("\u{1b}[?25l");
        (code, left && cursor && !after.contains("Overview"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dashboard_is_watched_operated_and_comes_back_with_the_service() {
    let chaos = [("OMS__CHAOS__ENABLED", "true")];
    let mut service = Service::start(OMS, &chaos, &["--mode", "legacy"]).await;
    let mut watched = Watched::start(&service);
    watched.shows(" OK ").await;
    watched.shows("PostgreSQL, epoch 1").await;
    watched.shows("Nothing needs anybody.").await;

    // A switch: the gates, a reason, the name of the stage.
    watched.press("s").await;
    watched.shows("To which stage?").await;
    watched.press("\r").await;
    watched.shows("legacy → dual_write/postgres").await;
    watched.shows("✓ s3_probe").await;
    watched.press("\r").await;
    watched.shows("Why to dual_write/postgres?").await;
    watched.press("OPS-7\r").await;
    watched
        .shows("Type dual_write/postgres to order the switch")
        .await;
    assert_eq!(service.get("/health").await["migration_mode"], "legacy");
    watched.press("dual_write/postgres\r").await;
    // Told at once, or as under way where it takes some seconds.
    service
        .until("the switch", async || {
            (service.get("/health").await["migration_mode"] == "dual_write").then_some(())
        })
        .await;
    watched.press("2").await;
    watched.shows("[dual_write/postgres]").await;
    watched.shows("OPS-7").await;

    // A verification.
    watched.press("v").await;
    watched.shows("Compares every stream").await;
    watched.press("\r").await;
    watched.shows("verification: done").await;

    // An actor is killed and restarted.
    watched.press("4").await;
    watched.shows("event_store").await;
    watched.choose("relay").await;
    watched.press("relay\r").await;
    watched.shows("relay was told to panic").await;
    service
        .until("a restart of the relay", async || {
            let tree = service.get("/api/v1/admin/actors").await;
            let mut children = tree["root"]["children"].as_array()?.iter();
            let relay = children.find(|child| child["path"] == "relay")?;
            (relay["restarts"].as_u64()? > 0).then_some(())
        })
        .await;
    watched.press("r").await;
    watched.shows("killed").await;

    // The service ends, and comes back.
    watched.press("1").await;
    service.kill_9();
    watched.shows(" AWAY ").await;
    watched.shows("The service is away: cannot reach").await;
    service.restart().await;
    watched.shows(" OK ").await;
    watched.press("q").await;
    assert_eq!(watched.ended().await, (Some(0), true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_terminal_is_left_as_it_was_whatever_ends_the_dashboard() {
    let service = Service::start(OMS, &[], &[]).await;
    let mut interrupted = Watched::start(&service);
    interrupted.shows(" OK ").await;
    // Ctrl-C, as a terminal in raw mode gives it.
    interrupted.press("\u{3}").await;
    assert_eq!(interrupted.ended().await, (Some(0), true));

    let terminated = Watched::start(&service);
    terminated.shows(" OK ").await;
    let script = terminated.terminal.id().expect("it runs");
    let children = format!("/proc/{script}/task/{script}/children");
    let children = std::fs::read_to_string(children).expect("its children");
    let dashboard = children.split_whitespace().next().expect("the dashboard");
    let dashboard = Pid::from_raw(dashboard.parse().expect("a process"));
    kill(dashboard, Signal::SIGTERM).expect("a signal");
    assert_eq!(terminated.ended().await, (Some(0), true));

    // Without a terminal it says what to use instead.
    let output = Command::new(OMS)
        .args(["dashboard", "--url", &service.url])
        .stdin(Stdio::null())
        .output()
        .await
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("oms --json status"),
        "{said}"
    );
}
