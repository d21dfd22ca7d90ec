//! `archip-benches`: runs the cases, prints the table, writes JSON and plots.

use benches::cases::{ON_RADOS, SUITES, Setting, Suite};
use benches::facts::Facts;
use benches::report::{Report, case_table, facts_table};
use benches::roles::{self, Role};
use benches::runner::{self, Plan};
use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Measure this project beside the others, interleaved, on this machine.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    /// Everything in less than three minutes
    #[arg(long)]
    quick: bool,
    /// On a Ceph cluster of one OSD, made for it; only this
    #[arg(long)]
    rados: bool,
    /// Only cases whose name contains this
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Where report.json, report.txt and the plots go
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    out: PathBuf,
    /// A directory on the disk to measure; what is made below it is removed
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    dir: PathBuf,
    /// Turns of each contender
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// How long a turn is, in milliseconds
    #[arg(long, value_name = "MS")]
    turn: Option<u64>,
    /// Of the order of turns and of the offsets; from the clock by default
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// List the cases
    #[arg(long)]
    list: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// The other half of a measurement
    #[command(subcommand, hide = true)]
    Role(Role),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Some(Command::Role(role)) => roles::play(role),
        None => measure(&cli),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("archip-benches: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(cli: &Cli) -> std::io::Result<()> {
    std::fs::create_dir_all(&cli.dir)?;
    let seed = cli.seed.unwrap_or_else(seed_from_clock);
    let disk = tempfile::Builder::new()
        .prefix("disk-")
        .tempdir_in(&cli.dir)?;
    let memory = tempfile::Builder::new()
        .prefix("archip-bench-")
        .tempdir_in("/dev/shm")?;
    let setting = Setting {
        quick: cli.quick,
        disk: std::path::absolute(disk.path())?,
        memory: memory.path().to_owned(),
        seed,
    };
    let mut report = Report {
        facts: Facts::gather(seed, &[&setting.disk, &setting.memory]),
        arguments: std::env::args().skip(1).collect(),
        cases: Vec::new(),
        skipped: Vec::new(),
    };
    say(format_args!("{}", facts_table(&report.facts)));
    let plan = plan(cli, seed);
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, plan.stop.clone())?;
    }
    let suites = if cli.rados { ON_RADOS } else { SUITES };
    for suite in suites {
        run_suite(suite, cli, &setting, &plan, &mut report);
    }
    if !cli.list {
        report.write(&cli.out)?;
        say(format_args!("\nwritten to {}\n", cli.out.display()));
    }
    Ok(())
}

/// Prints. Whoever reads may have seen enough (`--list | head`), which is no reason to stop a
/// measurement: its report goes to files as well.
fn say(text: fmt::Arguments<'_>) {
    let _ = std::io::stdout().lock().write_fmt(text);
}

fn run_suite(suite: &Suite, cli: &Cli, setting: &Setting, plan: &Plan, report: &mut Report) {
    let (name, make) = suite;
    let only = cli.only.as_deref().unwrap_or("");
    if only.contains('/') && !only.starts_with(name) {
        return;
    }
    let cases = match make(setting) {
        Ok(cases) => cases,
        Err(why) => {
            say(format_args!("\nskipped: {name}: {why}\n"));
            report.skipped.push(format!("{name}: {why}"));
            return;
        }
    };
    for case in cases.into_iter().filter(|case| case.name.contains(only)) {
        if plan.stopped() {
            return;
        }
        if cli.list {
            say(format_args!("{:<40} {}\n", case.name, case.title));
            continue;
        }
        let outcome = runner::run(case, plan);
        say(format_args!("\n{}", case_table(&outcome)));
        report.cases.push(outcome);
    }
}

fn plan(cli: &Cli, seed: u64) -> Plan {
    let (rounds, turn, warm_up) = match (cli.rados, cli.quick) {
        (false, true) => (5, 60, 20),
        (false, false) => (9, 500, 100),
        // Ceph's own programs count in seconds.
        (true, true) => (3, 1000, 0),
        (true, false) => (9, 1000, 1000),
    };
    Plan {
        rounds: cli.rounds.unwrap_or(rounds),
        turn: Duration::from_millis(cli.turn.unwrap_or(turn)),
        warm_up: Duration::from_millis(warm_up),
        seed,
        stop: Arc::default(),
    }
}

fn seed_from_clock() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |since| since.as_secs())
}
