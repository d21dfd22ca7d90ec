//! Runs a command, passes its output on line by line, and shows each line to a counter.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use crate::tally::Tally;

/// Runs `command` to its end. Returns what its output counted, and whether it succeeded.
pub(crate) fn run(command: &mut Command) -> io::Result<(Tally, bool)> {
    run_into(command, io::stdout(), io::stderr())
}

fn run_into(
    command: &mut Command,
    output: impl Write,
    errors: impl Write + Send,
) -> io::Result<(Tally, bool)> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let tally = Mutex::new(Tally::default());
    thread::scope(|scope| {
        let errors = scope.spawn(|| pass_on(stderr, errors, &tally));
        let output = pass_on(stdout, output, &tally);
        let errors = errors
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        output.and(errors)
    })?;
    let success = child.wait()?.success();
    let tally = tally
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    Ok((tally, success))
}

/// Copies lines as they are, also those that are no text.
fn pass_on(from: Option<impl Read>, mut to: impl Write, tally: &Mutex<Tally>) -> io::Result<()> {
    let Some(from) = from else { return Ok(()) };
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? > 0 {
        to.write_all(&line)?;
        to.flush()?;
        let text = String::from_utf8_lossy(&line);
        tally
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .see(text.trim_end());
        line.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Into memory, because whoever runs this test counts what it prints.
    #[test]
    fn both_outputs_are_passed_on_and_counted_and_the_status_is_told() {
        let script =
            r"printf 'test result: ok. 2 passed; 0 failed\n\377'; echo 'SKIP a: b' >&2; exit 3";
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let (tally, success) = run_into(&mut command, &mut output, &mut errors).unwrap();
        assert_eq!(tally.to_string(), "1 passed, 0 failed, 1 skipped");
        assert!(!success);
        assert_eq!(output, b"test result: ok. 2 passed; 0 failed\n\xff");
        assert_eq!(errors, b"SKIP a: b\n");
    }

    #[test]
    fn a_missing_program_is_an_error() {
        assert!(run(&mut Command::new("/no/such/program")).is_err());
    }
}
