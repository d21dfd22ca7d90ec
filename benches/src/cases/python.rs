//! The native Python API beside the Rust client it stands on: one caller, one request at a time.
//!
//! ```text
//!   Python: Volume.readinto -> libxseg: transfer -> segment -> node     copy: segment -> buffer
//!   Rust:   Volume::read_at --------------------> segment -> node       copy: segment -> buffer
//! ```

use super::Setting;
use crate::case::{Case, Contender, Metric, Trouble, Turn};
use crate::goal::Goal;
use crate::histogram::Histogram;
use crate::lab::{Lab, Shape, VOLUME, Wanted, name, program};
use client::{Hint, Volume};
use serde::Deserialize;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

const SKETCH: &str = "the same messages and the one copy for both; both spin and sleep alike
Python adds one call through ctypes, which lets go of the interpreter and takes it back, and the \
buffer's address: 3 to 5 us
64k from the page cache take 20 to 25 us: 0.85 of the rate; from 1m on the copy decides";
const PYTHON: &str = "/usr/bin/python3";
const OURS: &str = "Python";
const FLOOR: &str = "Rust client";
/// Of the Rust client's rate.
const PART: f64 = 0.75;

/// Reads and writes, small to large.
pub fn cases(setting: &Setting) -> Result<Vec<Case>, Trouble> {
    let lab = Lab::new(Wanted {
        rados: None,
        parent: setting.memory.clone(),
        shape: Shape::One,
        direct: false,
        durable: false,
        volume: 64 << 20,
    });
    let mut cases = Vec::new();
    for (slug, block) in [
        ("64k", 64 << 10),
        ("256k", 256 << 10),
        ("1m", 1 << 20),
        ("4m", 4 << 20),
    ] {
        for write in [false, true] {
            cases.push(case(&lab, slug, block, write));
        }
    }
    Ok(cases)
}

fn case(lab: &Rc<Lab>, slug: &str, block: usize, write: bool) -> Case {
    let what = verb(write);
    Case::new(
        format!("python/{what}-{slug}"),
        format!("{what} {slug} of a volume, one caller: Python beside Rust"),
        SKETCH,
        Metric::Megabytes(block as u64),
    )
    .wants(Goal::at_least_times(OURS, PART, FLOOR))
    .with(Script {
        lab: lab.clone(),
        block,
        write,
        child: None,
    })
    .with(Rust {
        lab: lab.clone(),
        write,
        at: 0,
        buffer: vec![0x3c; block],
        volume: None,
    })
}

fn verb(write: bool) -> &'static str {
    if write { "write" } else { "read" }
}

struct Rust {
    lab: Rc<Lab>,
    write: bool,
    at: u64,
    buffer: Vec<u8>,
    volume: Option<Volume>,
}

impl Contender for Rust {
    fn name(&self) -> String {
        FLOOR.into()
    }

    fn helpers(&self) -> Option<Vec<u32>> {
        Some(self.lab.node().ok()?.pids().collect())
    }

    fn setup(&mut self) -> Result<(), Trouble> {
        let client = self.lab.node()?.client()?;
        let volume = Volume::open(&client, name(VOLUME), Hint::default());
        self.volume = Some(volume.map_err(Trouble::failed("open"))?);
        Ok(())
    }

    fn run(&mut self, budget: Duration) -> Result<Turn, Trouble> {
        let none = || Trouble::Failed("no volume".into());
        let volume = self.volume.as_ref().ok_or_else(none)?;
        let len = self.buffer.len() as u64;
        let (start, mut latencies) = (Instant::now(), Histogram::default());
        let mut before = start;
        while before - start < budget {
            let done = match self.write {
                true => volume.write_at(&self.buffer, self.at),
                false => volume.read_at(&mut self.buffer, self.at),
            };
            done.map_err(Trouble::failed("transfer"))?;
            self.at = if self.at + 2 * len <= volume.size() {
                self.at + len
            } else {
                0
            };
            let now = Instant::now();
            latencies.record((now - before).as_nanos() as u64);
            before = now;
        }
        Ok(Turn::timed(before - start, latencies))
    }

    fn teardown(&mut self) {
        self.volume = None;
    }
}

struct Script {
    lab: Rc<Lab>,
    block: usize,
    write: bool,
    child: Option<(Child, BufReader<ChildStdout>)>,
}

#[derive(Deserialize)]
struct Said {
    ns: u64,
    latencies: Vec<u64>,
}

impl Script {
    fn line(&mut self) -> Result<String, Trouble> {
        let (_, out) = self
            .child
            .as_mut()
            .ok_or(Trouble::Failed("no Python".into()))?;
        let mut line = String::new();
        match out.read_line(&mut line) {
            Ok(0) => Err(Trouble::Failed("Python ended".into())),
            Ok(_) => Ok(line),
            Err(why) => Err(Trouble::failed("Python")(why)),
        }
    }
}

impl Contender for Script {
    fn name(&self) -> String {
        OURS.into()
    }

    fn helpers(&self) -> Option<Vec<u32>> {
        let child = self.child.as_ref().map(|(child, _)| child.id());
        Some(self.lab.node().ok()?.pids().chain(child).collect())
    }

    fn setup(&mut self) -> Result<(), Trouble> {
        if !Path::new(PYTHON).exists() {
            return Err(Trouble::Missing(format!("{PYTHON} is not installed")));
        }
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut child = Command::new(PYTHON)
            .arg(here.join("python/volume.py"))
            .arg(&self.lab.node()?.config().file)
            .arg(String::from_utf8_lossy(VOLUME).as_ref())
            .args([verb(self.write), &self.block.to_string()])
            .env("PYTHONPATH", here.join("../python"))
            .env("ARCHIPELAGO_LIBXSEG", program("libxseg_c.so")?)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Trouble::failed("Python"))?;
        let out = child
            .stdout
            .take()
            .ok_or(Trouble::Failed("no output".into()))?;
        self.child = Some((child, BufReader::new(out)));
        self.line().map(drop)
    }

    fn run(&mut self, budget: Duration) -> Result<Turn, Trouble> {
        let input = self
            .child
            .as_mut()
            .and_then(|(child, _)| child.stdin.as_mut());
        let mut input = input.ok_or(Trouble::Failed("no Python".into()))?;
        writeln!(&mut input, "{}", budget.as_nanos()).map_err(Trouble::failed("Python"))?;
        let said: Said = serde_json::from_str(&self.line()?).map_err(Trouble::failed("Python"))?;
        let mut latencies = Histogram::default();
        said.latencies.iter().for_each(|&ns| latencies.record(ns));
        Ok(Turn::timed(Duration::from_nanos(said.ns), latencies))
    }

    fn teardown(&mut self) {
        if let Some((mut child, _)) = self.child.take() {
            // The end of its input ends it.
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}
