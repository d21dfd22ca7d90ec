//! Another process with a driver of its own, to be stopped and killed: this very program, told by
//! its environment what to do.

use crate::rig::{Pool, name, write};
use driver::{Driver, Op, OpId};
use radosd::Config;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

const JOB: &str = "ARCHIPELAGO_TEST_RADOSD_VICTIM";

/// How many writes a victim keeps in flight.
const DEPTH: u64 = 16;

/// The objects that a writing victim writes to, whole blocks of 4 KiB.
pub(crate) const OBJECTS: u64 = 8;

/// What it writes.
pub(crate) const BYTES: [u8; 4096] = [b'v'; 4096];

pub(crate) struct Victim {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Victim {
    /// Starts one that acquires `volume` and holds it.
    pub(crate) fn hold(config: &Config, volume: &str) -> Victim {
        let mut victim = Victim::come_for(config, volume);
        victim.expect("ready");
        victim
    }

    /// Starts one that acquires `volume`, and does not wait for it; "ready" is said when it has it.
    pub(crate) fn come_for(config: &Config, volume: &str) -> Victim {
        Victim::start(config, &format!("hold {volume}"))
    }

    /// Starts one that writes until it is cut off.
    pub(crate) fn write(config: &Config) -> Victim {
        let mut victim = Victim::start(config, "write objects");
        victim.expect("ready");
        victim
    }

    fn start(config: &Config, job: &str) -> Victim {
        let words = [
            config.ceph_conf.to_str().unwrap(),
            &config.pool,
            &config.owner,
            &config.role,
            config.run_dir.to_str().unwrap(),
            job,
        ];
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim::victim", "--nocapture"])
            .env(JOB, words.join("\n"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Victim { child, said }
    }

    /// Waits for a line that ends so; what stands before it on the line.
    pub(crate) fn expect(&mut self, word: &str) -> String {
        let mut line = String::new();
        while self.said.read_line(&mut line).unwrap() > 0 {
            if let Some(before) = line.trim_end().strip_suffix(word) {
                return before.to_owned();
            }
            line.clear();
        }
        panic!("the victim ended before it said {word}");
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// SIGKILL; returns when it is dead.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Lets it end in good order.
    pub(crate) fn dismiss(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // It may be stopped, or dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn victim() {
    let Ok(words) = std::env::var(JOB) else {
        return;
    };
    let words: Vec<_> = words.lines().collect();
    let &[conf, pool, owner, role, run_dir, job] = &words[..] else {
        panic!("{words:?}");
    };
    let config = Config {
        pool: pool.into(),
        cephx_id: Some(rados_lab::USER.into()),
        ceph_conf: conf.into(),
        owner: owner.into(),
        role: role.into(),
        run_dir: run_dir.into(),
        tag_of: crate::rig::tag_of,
        expected_id: None,
    };
    let mut pool = Pool::open(config).unwrap();
    match job.split_once(' ').unwrap() {
        ("hold", volume) => hold(&mut pool, volume),
        ("write", _) => write_on(&mut pool),
        (other, _) => panic!("no job is called {other}"),
    }
}

fn say(line: &str) {
    println!("{line}");
    std::io::stdout().flush().unwrap();
}

/// Serves until its standard input ends, as a blocker would.
fn hold(pool: &mut Pool, volume: &str) {
    let acquire = Op::Acquire { name: name(volume) };
    pool.ask(acquire).unwrap();
    say("\nready");
    let (ended, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_line(&mut String::new());
        let _ = ended.send(());
    });
    while heard.try_recv().is_err() {
        pool.driver.poll(&mut Vec::new());
        pool.reactor.turn_or_wait(Some(10_000_000)).unwrap();
    }
}

fn write_on(pool: &mut Pool) {
    let (mut done, mut next, mut answered) = (Vec::new(), 0, 0u64);
    loop {
        while next - answered < DEPTH {
            let object = format!("object-{}", next % OBJECTS);
            let at = next / OBJECTS % 4 * 4096;
            pool.driver.submit(OpId(next), write(&object, at, &BYTES));
            next += 1;
        }
        pool.driver.poll(&mut done);
        if let Some(why) = pool.driver.lost() {
            say(&format!("\n{why} lost"));
            return;
        }
        let before = answered;
        answered += done.len() as u64;
        for one in done.drain(..) {
            assert!(one.result.is_ok(), "{one:?}");
        }
        if before < OBJECTS * 4 && answered >= OBJECTS * 4 {
            say("\nready");
        }
        if answered == before {
            pool.reactor.turn_or_wait(None).unwrap();
        }
    }
}
