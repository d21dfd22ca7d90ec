//! An expected failure of a tool: one sentence, and the exit status that scripts know.

use crate::term;
use std::fmt::{self, Display};
use std::process::ExitCode;

/// Exit status of almost every failure (`spec/cli.md` section 1: "archipelago Error").
pub(crate) const FAILED: u8 = 255;
/// Exit status of what nobody expected.
pub(crate) const UNEXPECTED: u8 = 1;

/// Why a tool did not do what it was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    text: String,
    status: u8,
}

impl Failure {
    /// An expected failure, as one sentence.
    pub(crate) fn new(text: impl Display) -> Failure {
        Failure {
            text: text.to_string(),
            status: FAILED,
        }
    }

    /// A failure of the system under the tool.
    pub(crate) fn unexpected(what: impl Display, why: impl Display) -> Failure {
        Failure {
            text: format!("{what}: {why}"),
            status: UNEXPECTED,
        }
    }

    /// The sentence that scripts look for, and why.
    pub(crate) fn because(sentence: &'static str) -> impl Fn(client::Error) -> Failure {
        move |why| Failure::new(format!("{sentence}: {why}"))
    }

    /// Only an exit status: what there was to say was said.
    pub(crate) fn silent(status: u8) -> Failure {
        Failure {
            text: String::new(),
            status,
        }
    }

    /// The same failure with another exit status.
    pub(crate) fn with_status(self, status: u8) -> Failure {
        Failure { status, ..self }
    }

    /// The exit status.
    pub(crate) fn status(&self) -> u8 {
        self.status
    }
}

impl From<endpoint::Error> for Failure {
    fn from(why: endpoint::Error) -> Failure {
        Failure {
            status: match why.kind {
                endpoint::ErrorKind::System => UNEXPECTED,
                _ => FAILED,
            },
            text: why.sentence,
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Prints the failure, if there is one, and says how to exit.
pub(crate) fn exit(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.text.is_empty() {
                term::complain(&failure);
            }
            ExitCode::from(failure.status())
        }
    }
}

/// Writes to standard output; a reader that has left early (`| head`) is no failure.
pub(crate) fn print(text: impl Display) -> Result<(), Failure> {
    use std::io::{ErrorKind, Write};
    match write!(std::io::stdout().lock(), "{text}") {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::unexpected("can't write to standard output", e))
        }
        _ => Ok(()),
    }
}

/// [`print`], and the end of the line.
pub(crate) fn say(text: impl Display) -> Result<(), Failure> {
    print(format_args!("{text}\n"))
}

/// One JSON value, readable.
pub(crate) fn say_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value);
    say(text.map_err(|e| Failure::unexpected("can't write JSON", e))?)
}
