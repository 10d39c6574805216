//! What the doctors of the programs do alike. A doctor looks at everything that its program stands on, beside one that runs
//! or before one is started, changes nothing, and says what it would change.
//!
//! | module | looks at |
//! | --- | --- |
//! | [`clock`] | the clock: against what was written before, by what the kernel knows of it, against other machines |
//! | [`disk`] | room, how long a flush takes, how the file system is mounted |
//! | [`folder`] | rights of folders and secrets, and which process has a folder |
//! | [`ports`] | whose an address is |
//! | [`limits`] | whether as many files may be open as are configured |
//!
//! **Never in here:** what only one program stands on.

pub mod clock;
pub mod disk;
pub mod folder;
pub mod limits;
pub mod peer;
pub mod ports;
mod report;
mod timex;

use std::process::ExitCode;

pub use self::report::{Diagnosis, DoctorFinding, Severity};
use crate::exit::Failure;
use crate::flags;

/// Prints what was found, for people or as one JSON document, and gives the exit code that says how bad it is.
pub fn tell(diagnosis: &Diagnosis, json: bool) -> ExitCode {
    let printed = match json.then(|| serde_json::to_string(diagnosis)) {
        None => flags::print(diagnosis),
        Some(Ok(document)) => flags::print(&format!("{document}\n")),
        Some(Err(error)) => Err(Failure::internal("the report", error)),
    };
    match printed {
        Ok(()) => diagnosis.exit_code().into(),
        Err(failure) => failure.exit().into(),
    }
}
