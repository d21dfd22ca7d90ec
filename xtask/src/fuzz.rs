//! `cargo xtask fuzz [SECONDS]`: every decoder of foreign bytes under libFuzzer.
//!
//! The targets are the plain functions that `cargo xtask test` drives too (module `fuzz` of each
//! crate below); `fuzz/fuzz_targets` makes a program of each. A stored corpus is where a run starts
//! and is never written to: what a run finds goes to a folder that ends with it. An input that
//! breaks a promise is kept in `target/fuzz/failures`.

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::test::{has_librados, workspace};

/// What `cargo xtask fuzz` may be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long in all, shared by the targets
    #[arg(default_value_t = 300)]
    seconds: u64,
    /// Only targets whose name contains this
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Install cargo-fuzz if it is missing (`CI=true` means the same)
    #[arg(long)]
    install: bool,
}

/// The crates with targets: what their names begin with, folder, package.
const CRATES: [(&str, &str, &str); 8] = [
    ("config", "peers/config", "archip-config"),
    ("driver", "peers/driver", "archip-driver"),
    ("fuse", "endpoints/fuse", "archip-fuse"),
    ("mapfile", "mapfile", "mapfile"),
    ("mapperd", "peers/mapperd", "mapperd"),
    ("nbd", "endpoints/nbd", "archip-nbd"),
    ("radosd", "radosd", "radosd"),
    ("xseg", "xseg", "xseg"),
];
/// The one that needs librados: its targets are left out where it is missing.
const RADOS: &str = "radosd";

/// Where everything goes, from the root of the workspace.
const PLACE: &str = "target/fuzz";
/// One input may take so long, s, and so much memory, MiB.
const INPUT_S_MAX: u64 = 10;
const MEMORY_MIB_MAX: u64 = 2048;

/// A program of `fuzz/fuzz_targets`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    name: String,
    /// Its stored corpus, from the root of the workspace.
    corpus: String,
    package: &'static str,
}

/// What came of a target.
struct Outcome {
    runs: u64,
    coverage: u64,
    log: PathBuf,
    /// The inputs that broke a promise; `None`: it ended well.
    failures: Option<Vec<PathBuf>>,
}

/// Runs every target for its share. Returns whether none found anything.
pub(crate) fn run(options: &Options) -> io::Result<bool> {
    let root = workspace();
    let only = options.only.as_deref().unwrap_or_default();
    let mut targets = targets(&root)?;
    targets.retain(|target| target.name.contains(only));
    if !has_librados() {
        println!("librados-dev is not installed: the targets of {RADOS} are left out");
        targets.retain(|target| target.package != RADOS);
    }
    if targets.is_empty() {
        return Err(io::Error::other(format!("no target is named like {only}")));
    }
    if !ensure_installed(options.install)? || !cargo(&root, &["build"]).status()?.success() {
        return Ok(false);
    }
    let share = (options.seconds / targets.len() as u64).max(1);
    println!("{} targets, {share} s each", targets.len());
    let mut good = true;
    for target in &targets {
        let outcome = fuzz(&root, target, share)?;
        report(target, &outcome);
        good &= outcome.failures.is_none();
    }
    Ok(good)
}

/// One target for each folder of a corpus.
fn targets(root: &Path) -> io::Result<Vec<Target>> {
    let mut targets = Vec::new();
    for (prefix, folder, package) in CRATES {
        for entry in fs::read_dir(root.join(folder).join("corpus"))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            targets.push(Target {
                corpus: format!("{folder}/corpus/{name}"),
                name: format!("{prefix}_{name}"),
                package,
            });
        }
    }
    targets.sort();
    Ok(targets)
}

fn cargo_program() -> std::ffi::OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Whether `cargo fuzz` is there, or could be installed.
fn ensure_installed(install: bool) -> io::Result<bool> {
    let there = Command::new(cargo_program())
        .args(["fuzz", "--version"])
        .output()?;
    if there.status.success() {
        return Ok(true);
    }
    if install || env::var_os("CI").is_some_and(|ci| ci == "true") {
        let mut command = Command::new(cargo_program());
        command.args(["install", "--locked", "cargo-fuzz"]);
        return Ok(command.status()?.success());
    }
    println!(
        "cargo-fuzz is not installed: run `cargo xtask fuzz --install`, or `cargo install --locked cargo-fuzz`."
    );
    Ok(false)
}

/// `cargo fuzz` with `words`, without a sanitizer: those need a nightly toolchain.
fn cargo(root: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(cargo_program());
    command.arg("fuzz").args(words);
    command.args(["--sanitizer", "none", "--target-dir", PLACE]);
    if has_librados() {
        command.args(["--features", "rados"]);
    }
    command.current_dir(root);
    command
}

/// Runs one target; its output goes to a log.
fn fuzz(root: &Path, target: &Target, seconds: u64) -> io::Result<Outcome> {
    let failures = root.join(PLACE).join("failures").join(&target.name);
    let log = root.join(PLACE).join(format!("{}.log", target.name));
    fs::create_dir_all(&failures)?;
    let known = files(&failures)?;
    let found = tempfile::tempdir()?;
    let output = File::create(&log)?;
    let status = cargo(root, &["run", &target.name])
        .arg(found.path())
        .arg(&target.corpus)
        .arg("--")
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={INPUT_S_MAX}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
        .arg(format!("-artifact_prefix={}/", failures.display()))
        .arg("-print_final_stats=1")
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()?;
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let mut new = files(&failures)?;
    new.retain(|file| !known.contains(file));
    Ok(Outcome {
        runs: number_after(&text, "stat::number_of_executed_units:"),
        coverage: number_after(&text, " cov:"),
        log,
        failures: (!status.success()).then_some(new),
    })
}

fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect()
}

/// The number behind the last `label` of a log, 0 without one.
fn number_after(log: &str, label: &str) -> u64 {
    log.rsplit_once(label)
        .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

fn report(target: &Target, outcome: &Outcome) {
    let Some(failures) = &outcome.failures else {
        println!(
            "{:24} ok      {:>10} runs, {:>5} edges",
            target.name, outcome.runs, outcome.coverage
        );
        return;
    };
    println!("{:24} FAILED, see {}", target.name, outcome.log.display());
    for file in failures {
        println!(
            "  input:   {}\n  again:   cargo fuzz run -s none --target-dir {PLACE} {} {0}\n  \
             to keep: copy it to {}/, then cargo test -p {} the_stored_corpus_passes",
            file.display(),
            target.name,
            target.corpus,
            target.package
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A target that only one side knows would never be run, or never be tested.
    #[test]
    fn every_corpus_has_a_program_and_every_program_a_corpus() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let manifest = fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
        let expected: Vec<String> = targets(root)
            .unwrap()
            .into_iter()
            .map(|target| target.name)
            .collect();
        let mut programs: Vec<String> = files(&root.join("fuzz/fuzz_targets"))
            .unwrap()
            .iter()
            .map(|file| file.file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        programs.sort();
        assert_eq!(programs, expected);
        for name in &expected {
            let named = format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"");
            assert!(
                manifest.contains(&named),
                "{name} is not in fuzz/Cargo.toml"
            );
        }
    }

    #[test]
    fn the_last_numbers_of_a_log_count() {
        let log = "#2 INITED cov: 7 ft: 8\n#9 DONE   cov: 12 ft: 30\n\
                   stat::number_of_executed_units: 4711\n";
        assert_eq!(number_after(log, " cov:"), 12);
        assert_eq!(number_after(log, "stat::number_of_executed_units:"), 4711);
        assert_eq!(number_after("", " cov:"), 0);
    }
}
