//! A node of the previous version beside one of ours: `tests/golden/old_node.py`, on the same
//! directories.
//!
//! It answers one command after the other and shares no code with ours. It ends with its handle,
//! as a process that was killed does: what it had locked stays locked.

use crate::golden::archive::{PYTHON, golden_dir};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A running old node.
pub struct OldNode {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl OldNode {
    /// One on `maps`, `blocks` and `locks` below `dir`, whose locks say `owner`. With `direct` it
    /// pads its files to 512 bytes.
    pub fn start(dir: &Path, owner: &str, direct: bool) -> OldNode {
        let mut command = Command::new(PYTHON);
        command.arg("-B").arg(golden_dir().join("old_node.py"));
        command.args(["maps", "blocks", "locks"].map(|part| dir.join(part)));
        command.arg(owner);
        if direct {
            command.arg("--direct");
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 was found");
        let commands = child.stdin.take().expect("it is piped");
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        OldNode {
            child,
            commands,
            answers,
        }
    }

    /// Does one command; what it answers, or why it failed.
    ///
    /// # Panics
    /// When the process died of it.
    pub fn ask(&mut self, command: Value) -> Result<Value, String> {
        writeln!(self.commands, "{command}").expect("the old node lives");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it answers");
        let said: Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("the old node died of {command}: {line:?}"));
        match said["failed"].as_str() {
            Some(why) => Err(why.to_owned()),
            None => Ok(said),
        }
    }
}

impl Drop for OldNode {
    fn drop(&mut self) {
        // It may have died already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
