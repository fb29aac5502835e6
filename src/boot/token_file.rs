//! Looks at the file of `auth.tokens_file` again and again: who is put in is let in, who is taken out
//! is refused. A file that cannot be used, half written perhaps, changes nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};

use super::http::tokens;
use crate::config::auth::AuthConfig;
use crate::file_stamp::FileStamp;
use crate::http::HttpLimits;
use crate::store::io_runtime::IoRuntime;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Begins to look, if there is such a file.
pub fn look_at(
    io: &IoRuntime,
    auth: &AuthConfig,
    limits: Arc<HttpLimits>,
) -> Option<JoinHandle<()>> {
    let path = auth.tokens_file.clone()?;
    let auth = auth.clone();
    // What was there before the first look: the file may have changed since it was read.
    let mut seen = None;
    let mut said = None;
    Some(io.spawn(async move {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let (looked_at, path, auth) = (seen, path.clone(), auth.clone());
            // Not on this thread: a file system of another machine may keep it waiting.
            let changed = spawn_blocking(move || {
                // Before it is read, so that a file that changes meanwhile is read again.
                let now = FileStamp::of(&path);
                (now != looked_at).then(|| (now, auth.read_again()))
            });
            match changed.await {
                Ok(None) => {}
                Ok(Some((now, Ok(read)))) => {
                    (seen, said) = (now, None);
                    let tokens = tokens(&read);
                    tracing::info!(
                        tokens = tokens.len(),
                        "tokens are those that their file has now"
                    );
                    limits.auth.replace_tokens(tokens);
                }
                Ok(Some((_, Err(error)))) => {
                    // It is read again with the next look: what ails it may pass by itself.
                    let why = error.to_string();
                    if said.as_ref() != Some(&why) {
                        tracing::warn!("tokens stay as they are: {why}");
                        said = Some(why);
                    }
                }
                Err(error) => tracing::error!(%error, "the file of tokens is not looked at"),
            }
        }
    }))
}
