//! The `oms` binary: everything is in the library.

#![allow(missing_docs, reason = "a binary has no users of its items")]

use std::process::ExitCode;

/// The service allocates often and briefly, on several threads: with the system's allocator about a
/// tenth of the samples of a profile under load were in it. The gain of this one was not measured
/// separately.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    oms::cli::main()
}
