//! The `oms` binary: everything is in the library.

use std::process::ExitCode;

/// The service allocates much and briefly, on several threads: this allocator spends about a tenth
/// less of the whole CPU time on it than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    oms::cli::main()
}
