//! The `oms` binary: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    oms::cli::main()
}
