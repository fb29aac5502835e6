//! The `oms` binary: everything is in the library.

use std::process::ExitCode;

/// The service allocates much and briefly, on several threads. With the system's allocator about a
/// tenth of the samples of a profile under load lay in it; what this one saves was not measured apart.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    oms::cli::main()
}
