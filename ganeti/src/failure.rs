//! What went wrong, in the words that Ganeti shows and people have come to know
//! (`spec/ganeti.md` section 4). The exit status of every failure is 1.

use std::fmt::{self, Display};
use std::process::ExitCode;

/// Why a script did not do what it was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// An expected failure of Archipelago, as one sentence.
    Archipelago(String),
    /// A variable that is missing or says what can't be meant, as one sentence.
    Environment(String),
    /// There is no such script.
    Unsupported(String),
    /// It was told already.
    Told,
}

impl Failure {
    /// An expected failure of Archipelago.
    pub(crate) fn archipelago(why: impl Display) -> Failure {
        Failure::Archipelago(why.to_string())
    }

    /// The same, after the words that say what was attempted.
    pub(crate) fn because(sentence: &'static str) -> impl Fn(client::Error) -> Failure {
        move |why| Failure::archipelago(format_args!("{sentence}: {why}"))
    }

    /// A variable that must be there is not.
    pub(crate) fn missing(variable: &str) -> Failure {
        Failure::Environment(format!("The environment variable {variable} is missing."))
    }

    /// A variable says what can't be meant.
    pub(crate) fn wrong(variable: &str, value: &str, wanted: &str) -> Failure {
        let value = value.escape_debug();
        Failure::Environment(format!(
            "The environment variable {variable} is `{value}`, which is not {wanted}."
        ))
    }

    /// The sentence alone.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Failure::Archipelago(why) | Failure::Environment(why) => why,
            Failure::Unsupported(name) => name,
            Failure::Told => "",
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Archipelago(why) => write!(f, "Archipelago error: {why}"),
            Failure::Environment(why) => write!(f, "{why}\nWrong environment. Aborting..."),
            Failure::Unsupported(name) => write!(f, "Action '{name}' not supported"),
            Failure::Told => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

impl From<endpoint::Error> for Failure {
    fn from(why: endpoint::Error) -> Failure {
        Failure::archipelago(why)
    }
}

/// Prints the failure, if there is one, and says how to exit.
pub(crate) fn exit(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Told) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
