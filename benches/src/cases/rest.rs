//! A node at rest: processor time while nobody asks, and private memory after it was busy.

use super::Setting;
use crate::case::{Case, Contender, Metric, Trouble, Turn};
use crate::goal::Goal;
use crate::lab::{Lab, Node, Shape, Wanted};
use crate::load::{Pattern, Work};
use crate::usage;
use std::rc::Rc;
use std::time::Duration;

const IDLE: &str = "no timer fires and nobody polls: every process sleeps in one wait: 0 ms
(a lock that is renewed costs less than 0.1 ms); what tools show comes in ticks of 10 ms";
const MEMORY: &str = "code and its relocations 3 to 5 MiB, slots of 64 operations, a ring of 512 \
entries, cached map entries 8 to 16 bytes each: 8 to 12 MiB
what the segment takes is not counted";

/// After this many requests memory is looked at.
const REQUESTS: u64 = 10_000;

/// Idle time and memory of both shapes.
pub fn cases(setting: &Setting) -> Result<Vec<Case>, Trouble> {
    let labs = Shape::BOTH.map(|shape| {
        let parent = setting.memory.clone();
        let volume = 64 << 20;
        Lab::new(Wanted {
            parent,
            shape,
            direct: false,
            durable: false,
            volume,
            rados: None,
        })
    });
    let wait = Duration::from_secs(if setting.quick { 5 } else { 10 });
    let title = format!(
        "an idle node: utime + stime of all its processes over {} s",
        wait.as_secs()
    );
    let mut idle = Case::new("rest/idle", title, IDLE, Metric::Value("ms"));
    let title = "private memory of the largest process after 10,000 requests at depth 64";
    let mut memory = Case::new("rest/memory", title, MEMORY, Metric::Value("MiB"));
    for lab in &labs {
        let ours = Idle {
            lab: lab.clone(),
            wait,
        };
        idle = idle
            .wants(Goal::at_most(&ours.name(), 10.0, "one tick"))
            .with(ours);
        let ours = Memory {
            lab: lab.clone(),
            seed: setting.seed,
        };
        memory = memory
            .wants(Goal::at_most(&ours.name(), 20.0, "each process"))
            .with(ours);
    }
    idle.rounds = Some(1);
    memory.rounds = Some(if setting.quick { 2 } else { 5 });
    Ok(vec![memory, idle])
}

fn shape(lab: &Lab) -> &'static str {
    lab.wanted().shape.as_str()
}

fn processor(node: &Node) -> Result<Duration, Trouble> {
    node.pids()
        .map(|pid| usage::processor(pid).map_err(Trouble::failed("processor time")))
        .sum()
}

struct Idle {
    lab: Rc<Lab>,
    wait: Duration,
}

impl Contender for Idle {
    fn name(&self) -> String {
        shape(&self.lab).into()
    }

    fn setup(&mut self) -> Result<(), Trouble> {
        self.lab.node().map(drop)
    }

    fn run(&mut self, _: Duration) -> Result<Turn, Trouble> {
        let node = self.lab.node()?;
        let before = processor(node)?;
        std::thread::sleep(self.wait);
        Ok(Turn::of_value(
            (processor(node)? - before).as_secs_f64() * 1e3,
        ))
    }
}

struct Memory {
    lab: Rc<Lab>,
    seed: u64,
}

impl Contender for Memory {
    fn name(&self) -> String {
        shape(&self.lab).into()
    }

    fn run(&mut self, _: Duration) -> Result<Turn, Trouble> {
        let node = self.lab.node()?;
        let mut place = node.place()?;
        let mut done = 0;
        for (write, until) in [(true, REQUESTS / 2), (false, REQUESTS)] {
            let work = Work {
                write,
                random: true,
                block: 4096,
                depth: 64,
            };
            let mut pattern = Pattern::new(&work, node.volume_size(), self.seed);
            while done < until {
                done += place
                    .run(&work, &mut pattern, Duration::from_millis(20))?
                    .ops;
            }
        }
        let mut most = 0;
        for pid in node.pids() {
            most = most.max(usage::private_kib(pid).map_err(Trouble::failed("smaps"))?);
        }
        Ok(Turn::of_value(most as f64 / 1024.0))
    }
}
