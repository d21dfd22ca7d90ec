//! The lines that tell what a supervisor does, in the original's words and columns.

use crate::failure::{Failure, print, say};
use crate::term::{Colour, column, complain, paint};
use node::supervisor::control::Event;
use std::io::Write;

/// A banner: two lines of `=` with the words between, and an empty line.
pub(super) fn banner(words: &str) -> Result<(), Failure> {
    let line = "=".repeat(20);
    say(format_args!("{line}\n{words}\n{line}\n"))
}

/// Prints an event. Of roles that share a process the first one's line is begun at once, so that
/// people see what is waited for; the others follow when it is finished.
pub(super) fn tell(event: &Event) -> Result<(), Failure> {
    match event {
        Event::Starting { roles } => begin("Starting", roles),
        Event::Stopping { roles } => begin("Stopping", &reversed(roles)),
        Event::Started { roles } => finish("Starting", roles, &paint("OK", Colour::Green)),
        Event::Stopped { roles } => {
            finish("Stopping", &reversed(roles), &paint("OK", Colour::Green))
        }
        Event::Killed { roles } => finish(
            "Stopping",
            &reversed(roles),
            &paint("KILLED", Colour::Yellow),
        ),
        Event::NotRunning { roles } => roles.iter().rev().try_for_each(|role| {
            say(format_args!(
                "{}{}",
                column(role),
                paint("Not running", Colour::Yellow)
            ))
        }),
        Event::Failed { roles, reason } => {
            say(paint("FAILED", Colour::Red))?;
            complain(format_args!("{}: {reason}", roles.join(", ")));
            Ok(())
        }
        Event::Note { text } => say(text),
        Event::Status(_) | Event::Done | Event::Error { .. } => Ok(()),
    }
}

/// What stops is told in the order opposite to that of the start.
fn reversed(roles: &[String]) -> Vec<String> {
    roles.iter().rev().cloned().collect()
}

fn head(verb: &str, role: &str) -> String {
    column(format_args!("{verb} {role} "))
}

fn begin(verb: &str, roles: &[String]) -> Result<(), Failure> {
    let Some(first) = roles.first() else {
        return Ok(());
    };
    print(head(verb, first))?;
    // Only a line that is shown late.
    let _ = std::io::stdout().flush();
    Ok(())
}

fn finish(verb: &str, roles: &[String], end: &str) -> Result<(), Failure> {
    say(end)?;
    roles
        .iter()
        .skip(1)
        .try_for_each(|role| say(format_args!("{}{end}", head(verb, role))))
}
