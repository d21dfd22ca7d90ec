//! `xseg`: the segment itself, for administrators and for programs without a node.
//!
//! - `words`: the command line: a segment, perhaps two ports, and commands one after the other
//! - `global`: commands on the segment: create, destroy, reports and repairs
//! - `hold`: the small process that holds a segment made by `create`
//! - `own`: commands that serve: ports bound here, and answers to what comes
//! - `port`: commands that send requests to a port

mod global;
mod hold;
mod own;
mod port;
mod words;

use crate::failure::{self, Failure};
use clap::{Arg, Command};
use config::SegmentSpec;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use words::{Ports, Word, parse};

const COMMANDS: &str = "\
Commands on the segment:
  create                  make the segment; a small process holds it
  destroy                 end that process, and the segment with it
  join                    try to join
  reportall [--format json]
                          what is taken, and by whom
  signal PORT             wake whoever serves the port
  recoverport PORT [force]
                          end the requests that wait at a port for the dead
  recoverlocks PID        look after what a dead process left
  verify, verify-fix      look for what is wrong; mend it

Commands that serve, in this process and for as long as it runs:
  bind PORT, free PORT    take a port that nobody serves; give it back
  complete N, fail N      wait for N requests at the ports bound here, and answer each with success
                          or with an I/O error
  alloc_requests N, free_requests N
                          take N free requests, to see who suffers; give them back

Commands on the port DST, given before them as SRC:DST (SRC is ignored: any free port is taken):
  read TARGET OFFSET SIZE, write TARGET OFFSET (data from standard input), info TARGET,
  delete TARGET, acquire TARGET, release TARGET, open TARGET, close TARGET, copy SRC DST,
  clone SRC DST MB, snapshot SRC DST, truncate TARGET SIZE
                          send one request
  wait N                  wait for N answers, and print them
  report                  who serves the port, and what waits there

Left out: set-next (a port leads to a seat, there is no further hop); put_requests, put_replies and
failreq (a request is sent, answered or failed whole: complete, fail and recoverport do that);
inspect-freeq, inspect-requestq and inspect-replyq (there are no such queues: reportall shows the
states of all requests); rndwrite, rndread, rnddelete and submit_reqs (archip-bench does that, and
measures it); bridge (the original had it disabled).";

/// A segment, and where its holder listens.
struct Place {
    spec: SegmentSpec,
    run_dir: PathBuf,
}

impl Place {
    fn socket(&self) -> PathBuf {
        self.run_dir.join(format!("{}.sock", self.spec.name))
    }

    fn pid_file(&self) -> PathBuf {
        self.run_dir.join(format!("{}.holder.pid", self.spec.name))
    }
}

/// The command line, for man pages and completions.
pub fn command() -> Command {
    Command::new("xseg")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Make, look at and mend a segment of Archipelago, and send requests through it")
        .arg(
            Arg::new("spec")
                .value_name("SPEC")
                .required(true)
                .help("TYPE:NAME:DYNPORTS:PORTS:SIZE_MB:ALIGN; posix:NAME: is enough to join"),
        )
        .arg(
            Arg::new("words")
                .value_name("[SRC]:[DST] COMMAND ARGS...")
                .required(true)
                .num_args(1..)
                .trailing_var_arg(true)
                .allow_hyphen_values(true)
                .help("What to do, one after the other"),
        )
        .after_help(COMMANDS)
}

/// Runs the tool with these arguments, the first of which is its own name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    if args.len() < 3
        && !args
            .iter()
            .any(|a| matches!(a.to_str(), Some("-h" | "--help" | "-V" | "--version")))
    {
        // The original's answer to too few words.
        eprintln!("{}", command().render_long_help());
        return ExitCode::from(failure::UNEXPECTED);
    }
    let matches = command().get_matches_from(args);
    let spec = matches.get_one::<String>("spec").map_or("", String::as_str);
    let words: Vec<&str> = matches
        .get_many::<String>("words")
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    failure::exit(run(spec, &words))
}

fn run(spec: &str, words: &[&str]) -> Result<(), Failure> {
    let place = Place {
        spec: spec.parse().map_err(Failure::new)?,
        run_dir: config::paths::default_run_dir(),
    };
    if words == [hold::WORD] {
        return hold::hold(&place);
    }
    let words = parse(words).map_err(Failure::new)?;
    let mut ports = Ports::default();
    let (mut line, mut counter) = (None, None);
    let mut last = Ok(());
    for word in words {
        last = match word {
            Word::Ports(given) => {
                ports = given;
                Ok(())
            }
            Word::Global(command) => global::run(&place, &command),
            Word::Own(command) => own::run(&place, &mut counter, &command),
            Word::Port(command) => port::run(&place, ports, &mut line, command),
        };
        // Each failure is told; the exit status is the last command's.
        if let Err(failure) = &last {
            crate::term::complain(failure);
        }
    }
    last.map_err(|_| Failure::silent(failure::UNEXPECTED))
}
