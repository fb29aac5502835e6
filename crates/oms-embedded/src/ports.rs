//! Ports that survive restarts: the number is kept in a file.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::path::Path;

use rand::Rng as _;

use super::EmbeddedError;
use super::files::{read_text, write_private};

/// Below the ports that Linux gives to outgoing connections and to whoever asks for any (from 32768
/// on, unless `net.ipv4.ip_local_port_range` says otherwise): one of those would often be somebody
/// else's after a restart.
const LASTING: RangeInclusive<u16> = 20_000..=32_767;

/// Ports that are tried before any will do.
const TRIES: usize = 64;

/// Listens on loopback, on the port in the file at `path` if it is free, else on another.
pub fn listen(path: &Path) -> Result<TcpListener, EmbeddedError> {
    let kept = kept(path)?;
    let listener = match kept.map(bind) {
        Some(Ok(listener)) => Ok(listener),
        Some(Err(error)) => {
            let file = path.display();
            tracing::warn!(%error, port = kept, %file, "cannot have its port again and takes another");
            bind_any()
        }
        None => bind_any(),
    };
    listener.map_err(EmbeddedError::io("find a port for", path))
}

/// Stores `port` in the file at `path`.
pub fn keep(path: &Path, port: u16) -> Result<(), EmbeddedError> {
    if kept(path)? == Some(port) {
        return Ok(());
    }
    write_private(path, port.to_string().as_bytes())
}

fn kept(path: &Path) -> Result<Option<u16>, EmbeddedError> {
    Ok(read_text(path)?.and_then(|text| text.trim().parse().ok()))
}

fn bind(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

fn bind_any() -> io::Result<TcpListener> {
    let mut random = rand::rng();
    for _ in 0..TRIES {
        if let Ok(listener) = bind(random.random_range(LASTING)) {
            return Ok(listener);
        }
    }
    bind(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_one_that_nobody_is_given_meanwhile_and_is_had_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("port");
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let first = listen(&file).unwrap();
        let given = port(&first);
        assert!(LASTING.contains(&given), "{given}");
        keep(&file, given).unwrap();
        // Somebody else has it.
        assert_ne!(port(&listen(&file).unwrap()), given);
        drop(first);
        assert_eq!(port(&listen(&file).unwrap()), given);
    }
}
