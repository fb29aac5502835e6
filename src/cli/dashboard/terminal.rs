//! The terminal: taken, and given back as it was, also after a panic, an error or a signal.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use ratatui::{DefaultTerminal, Frame};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// How soon the thread that reads keys notices that nobody wants them any more.
const NOTICE: Duration = Duration::from_millis(100);

/// Keys that were not taken yet.
const TYPED: usize = 64;

/// A key; `None`: the size has changed.
type Typed = io::Result<Option<KeyEvent>>;

/// The terminal, in raw mode and on its other screen; dropped, it is as it was.
pub struct Terminal {
    terminal: DefaultTerminal,
    ended: Arc<AtomicBool>,
}

impl Terminal {
    /// Takes it. A panic gives it back before its message is printed.
    pub fn take() -> io::Result<Self> {
        Ok(Self {
            terminal: ratatui::try_init()?,
            ended: Arc::default(),
        })
    }

    pub fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(draw).map(|_| ())
    }

    /// What is typed, read by a thread of its own because reading blocks.
    pub fn keys(&self) -> mpsc::Receiver<Typed> {
        let (typed, keys) = mpsc::channel(TYPED);
        let ended = self.ended.clone();
        std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let event = match event::poll(NOTICE) {
                    Ok(false) => continue,
                    Ok(true) => event::read(),
                    Err(error) => Err(error),
                };
                let failed = event.is_err();
                let told = match event {
                    Ok(Event::Key(key)) if key.kind == KeyEventKind::Press => Ok(Some(key)),
                    Ok(Event::Resize(..)) => Ok(None),
                    Ok(_) => continue,
                    Err(error) => Err(error),
                };
                if typed.blocking_send(told).is_err() || failed {
                    return;
                }
            }
        });
        keys
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        ratatui::restore();
    }
}

/// Waits for a signal to end: from the system, or because the terminal was closed.
pub fn asked_to_end() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
