//! Small files of the data directory: keys, `endpoints.json`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use rand::distr::{Alphanumeric, SampleString};

use super::{EmbeddedError, private};

/// Replaces a file atomically and durably; readable by its owner only.
pub fn write_private(path: &Path, contents: &[u8]) -> Result<(), EmbeddedError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = Path::new(&temporary);
    let write = || -> io::Result<()> {
        // Left over from an interrupted write, perhaps with other permissions.
        match fs::remove_file(temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = private::options()
            .write(true)
            .create_new(true)
            .open(temporary)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(temporary, path)?;
        match path.parent().filter(|p| !p.as_os_str().is_empty()) {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(EmbeddedError::io("write", path))
}

/// A file's text; `None` if there is no such file.
pub fn read_text(path: &Path) -> Result<Option<String>, EmbeddedError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(EmbeddedError::io("read", path)(e)),
    }
}

/// Random letters and digits, from a cryptographic source.
pub fn random_key(len: usize) -> String {
    Alphanumeric.sample_string(&mut rand::rng(), len)
}

/// The secret in the file at `path`, which is created on first use and readable by its owner only.
pub fn secret(path: &Path, len: usize) -> Result<String, EmbeddedError> {
    if let Some(text) = read_text(path)? {
        let text = text.trim();
        if !text.is_empty() {
            private::close(path).map_err(EmbeddedError::io("close", path))?;
            return Ok(text.to_owned());
        }
    }
    let secret = random_key(len);
    write_private(path, secret.as_bytes())?;
    Ok(secret)
}
