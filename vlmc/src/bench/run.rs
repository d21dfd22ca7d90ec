//! Keeping so many requests under way, each with a buffer of its own.

use super::Target;
use super::cli::{Cli, Interval, Operation, Shown, Verify, YesNo};
use super::content;
use super::plan::Plan;
use super::stats::{Histogram, Outcome, Report};
use crate::failure::Failure;
use client::wait::Patience;
use client::{Core, Done, Name};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use std::fmt::Write;
use std::time::Instant;
use xseg::join::{self, Connection, Kind};
use xseg::protocol::{self, PortNo};
use xseg::{Extent, Request};

/// A seat at the node.
pub(super) struct Bench {
    core: Core,
    connection: Connection,
    patience: Patience,
    port: PortNo,
    volume: Option<String>,
    progress: Option<(Shown, Interval)>,
}

/// What is known of a request under way, by its lane.
struct Lane {
    buffer: Option<Extent>,
    number: u64,
    since: Instant,
}

/// A run under way.
struct Run<'a> {
    plan: &'a Plan,
    lanes: Vec<Lane>,
    next: u64,
    failed: u64,
    wrong: u64,
    latencies: Histogram,
    block: Vec<u8>,
    scratch: Vec<u8>,
}

fn number_of(operation: Operation) -> protocol::Operation {
    match operation {
        Operation::Read => protocol::Operation::Read,
        Operation::Write => protocol::Operation::Write,
        Operation::Info => protocol::Operation::Info,
        Operation::Delete => protocol::Operation::Delete,
    }
}

fn name(target: &str) -> Result<Name, Failure> {
    Name::new(target.as_bytes())
        .ok_or_else(|| Failure::new(format!("`{target}` is longer than a name can be")))
}

fn reason(errno: i32) -> &'static str {
    nix::errno::Errno::from_raw(errno).desc()
}

impl Bench {
    pub(super) fn join(target: &Target, cli: &Cli) -> Result<Bench, Failure> {
        let kind = Kind::Client {
            name: "archip-bench",
        };
        let mut joined = join::connect(&target.socket, kind).map_err(Failure::new)?;
        joined.seat.bind_dynamic();
        Ok(Bench {
            core: Core::new(joined.seat),
            connection: joined.connection,
            patience: Patience::default(),
            port: target.port,
            volume: cli.volume.clone(),
            progress: (cli.progress == YesNo::Yes).then_some((cli.ptype, cli.pinterval)),
        })
    }

    /// Bytes of the volume.
    pub(super) fn size(&mut self) -> Result<u64, Failure> {
        let volume = self.volume.clone().unwrap_or_default();
        let request = Request::new(protocol::Operation::Info, name(&volume)?);
        let buffer = self.core.take_buffer(8);
        self.send(&request, buffer, 0)?;
        let mut done = Vec::new();
        self.wait(&mut done)?;
        let done = done.remove(0);
        let failed = |errno| Failure::new(format!("info of \"{volume}\": {}", reason(errno)));
        done.answer.result().map_err(failed)?;
        let bytes = done.reply().map(Extent::to_vec).unwrap_or_default();
        for buffer in done.data.iter().chain(&done.larger) {
            self.core.give_buffer_back(buffer);
        }
        let size = bytes.first_chunk().map(|b| u64::from_le_bytes(*b));
        size.ok_or_else(|| failed(libc::EIO))
    }

    /// That the port answers.
    pub(super) fn ping(&mut self) -> Result<(), Failure> {
        let request = Request::new(protocol::Operation::Ping, Name::EMPTY);
        self.send(&request, None, 0)?;
        let mut done = Vec::new();
        self.wait(&mut done)?;
        let failed = |errno| {
            Failure::new(format!(
                "port {} does not answer: {}",
                self.port,
                reason(errno)
            ))
        };
        done.remove(0).answer.result().map(drop).map_err(failed)
    }

    /// A bar for a run, and how many answers lie between two looks at it.
    fn bar(&self, plan: &Plan) -> (ProgressBar, u64) {
        let Some((shown, interval)) = self.progress else {
            return (ProgressBar::hidden(), u64::MAX);
        };
        let bytes = if plan.moves_data() { plan.block } else { 0 };
        let mib = move |requests: u64| format!("{} MiB", (requests * bytes) >> 20);
        let template = match shown {
            Shown::Req => "{wide_bar} {pos}/{len}",
            Shown::Io => "{wide_bar} {mib}",
            Shown::Both => "{wide_bar} {pos}/{len} {mib}",
        };
        let style = ProgressStyle::with_template(template)
            .expect("the templates above are well formed")
            .with_key("mib", move |state: &ProgressState, w: &mut dyn Write| {
                // A line of a terminal, which takes everything.
                let _ = w.write_str(&mib(state.pos()));
            });
        let bar = ProgressBar::new(plan.count()).with_style(style);
        (bar, interval.of(plan.count()))
    }

    fn send(&mut self, request: &Request, data: Option<Extent>, token: u64) -> Result<(), Failure> {
        let sent = self.core.submit(self.port, request, data, token);
        sent.map_err(|(errno, _)| {
            Failure::new(format!(
                "port {} takes no request: {}",
                self.port,
                reason(errno)
            ))
        })
    }

    fn wait(&mut self, done: &mut Vec<Done>) -> Result<(), Failure> {
        while done.is_empty() {
            let node = Some(self.connection.descriptor());
            if !self.patience.wait(&mut self.core, node, done) && done.is_empty() {
                return Err(Failure::new("the node went away"));
            }
        }
        Ok(())
    }

    /// Runs the plan to its end. Requests that fail are counted, not fatal.
    pub(super) fn run(&mut self, plan: &Plan) -> Result<Report, Failure> {
        let mut run = Run::new(plan);
        run.take_buffers(&mut self.core)?;
        let (progress, every) = self.bar(plan);
        let start = Instant::now();
        for lane in 0..run.lanes.len() {
            self.send_next(&mut run, lane)?;
        }
        let (mut done, mut answered) = (Vec::new(), 0);
        while answered < plan.count() {
            self.wait(&mut done)?;
            for one in done.drain(..) {
                let lane = one.token as usize;
                run.land(&mut self.core, one);
                answered += 1;
                if answered % every == 0 {
                    progress.set_position(answered);
                }
                self.send_next(&mut run, lane)?;
            }
        }
        let elapsed = start.elapsed();
        progress.finish_and_clear();
        Ok(Report::new(Outcome {
            operation: format!("{:?}", plan.operation).to_lowercase(),
            seed: plan.seed,
            block: if plan.moves_data() { plan.block } else { 0 },
            failed: run.failed,
            wrong: run.wrong,
            elapsed,
            latencies: run.latencies,
        }))
    }

    fn send_next(&mut self, run: &mut Run<'_>, lane: usize) -> Result<(), Failure> {
        if run.next == run.plan.count() {
            return Ok(());
        }
        let step = run.plan.step(run.next);
        run.next += 1;
        let request = Request {
            offset: step.offset,
            size: if run.plan.moves_data() {
                run.plan.block
            } else {
                0
            },
            ..Request::new(number_of(run.plan.operation), name(&step.target)?)
        };
        let buffer = run.prepare(lane, step.number);
        self.send(&request, buffer, lane as u64)
    }
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan) -> Run<'a> {
        let lanes = (plan.depth as u64).min(plan.count());
        let lane = |_| Lane {
            buffer: None,
            number: 0,
            since: Instant::now(),
        };
        Run {
            plan,
            lanes: (0..lanes).map(lane).collect(),
            next: 0,
            failed: 0,
            wrong: 0,
            latencies: Histogram::default(),
            block: vec![0xa5; plan.block as usize],
            scratch: vec![0; plan.block as usize],
        }
    }

    fn take_buffers(&mut self, core: &mut Core) -> Result<(), Failure> {
        let size = if self.plan.moves_data() {
            self.plan.block
        } else {
            8
        };
        for lane in &mut self.lanes {
            let buffer = core.take_buffer(size).ok_or_else(|| {
                Failure::new("the segment has no room for so many requests; lower --iodepth")
            })?;
            buffer.fill(&self.block[..size as usize]);
            lane.buffer = Some(buffer);
        }
        Ok(())
    }

    /// The lane's buffer, filled as the plan says. The clock starts afterwards.
    fn prepare(&mut self, lane: usize, number: u64) -> Option<Extent> {
        let lane = &mut self.lanes[lane];
        let buffer = lane.buffer.take();
        if self.plan.operation == Operation::Write && self.plan.verify != Verify::No {
            content::fill(&mut self.block, self.plan.verify, self.plan.seed, number);
            buffer.iter().for_each(|buffer| {
                buffer.fill(&self.block);
            });
        }
        lane.number = number;
        lane.since = Instant::now();
        buffer
    }

    /// An answer: its latency, whether it is right, and the lane's buffer back.
    fn land(&mut self, core: &mut Core, done: Done) {
        let lane = &mut self.lanes[done.token as usize];
        self.latencies.add(lane.since.elapsed());
        if done.answer.result().is_err() {
            self.failed += 1;
        } else if self.plan.operation == Operation::Read && self.plan.verify != Verify::No {
            let block = done.reply().map(Extent::to_vec).unwrap_or_default();
            let (plan, number) = (self.plan, lane.number);
            let right = block.len() == self.scratch.len()
                && content::is_right(&block, &mut self.scratch, plan.verify, plan.seed, number);
            self.wrong += u64::from(!right);
        }
        if let Some(larger) = &done.larger {
            core.give_buffer_back(larger);
        }
        lane.buffer = done.data;
    }
}
